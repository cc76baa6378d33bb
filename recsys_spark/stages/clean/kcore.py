"""The k-core: the largest set of users and items in which every user has enough of the items and every item enough of the users.

Seidman (1983), Network structure and minimum degree, Social Networks 5(3); here on a bipartite graph with one threshold a side. Taking away the
poor of one side can make others poor, so the sides take turns until a side has none left. The result does not depend on the order.
"""

from __future__ import annotations

import logging
from itertools import cycle

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import ITEM_IDX, USER_IDX
from recsys_spark.stages.clean.checkpointed import pinned

log = logging.getLogger(__name__)


def outside_core(pairs: DataFrame, *, users: int, items: int) -> dict[str, DataFrame | None]:
    """What is not in the core: under USER_IDX the users with fewer than `users` items left, under ITEM_IDX the items with fewer than `items` users.

    `pairs`: distinct (user_idx, item_idx). None for a side of which all are in the core. A pair is in the core when both its ends are.
    `pairs` are persisted; each turn runs a few small jobs.
    """
    least = {ITEM_IDX: items, USER_IDX: users}
    gone: dict[str, DataFrame | None] = {ITEM_IDX: None, USER_IDX: None}
    pairs = pairs.persist()
    for turn, side in enumerate(cycle(least)):
        left = _without(_without(pairs, gone[ITEM_IDX], ITEM_IDX), gone[USER_IDX], USER_IDX)
        degrees = left.groupBy(side).agg(F.count(F.lit(1)).alias("n"))
        poor, n_poor = pinned(degrees.where(F.col("n") < least[side]).select(side))
        # the other side was made sound in the turn before and has lost nothing since
        if n_poor == 0 and turn > 0:
            break
        if n_poor:
            what = "items" if side == ITEM_IDX else "users"
            log.info("clean: k-core turn %d takes away %s %s", turn + 1, f"{n_poor:,}", what)
            before = gone[side]
            gone[side] = poor if before is None else pinned(before.unionAll(poor))[0]
    pairs.unpersist()
    return gone


def _without(pairs: DataFrame, gone: DataFrame | None, side: str) -> DataFrame:
    return pairs if gone is None else pairs.join(gone, side, "left_anti")
