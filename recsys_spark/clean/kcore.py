"""The k-core: the largest set of users and items in which every user has enough of the items and every item enough of the users.

Seidman (1983), Network structure and minimum degree, Social Networks 5(3); here on a bipartite graph with one threshold a side. Taking away the
poor of one side can make others poor, so the sides take turns until a side has none left. The result does not depend on the order.
"""

from __future__ import annotations

import logging
from functools import reduce
from itertools import cycle

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import ITEM_IDX, USER_IDX

log = logging.getLogger(__name__)

_BROADCAST = 500_000
"""Ids that are sent to every task rather than exchanged [ids]."""


def outside_core(pairs: DataFrame, *, users: int, items: int) -> dict[str, DataFrame | None]:
    """What is not in the core: under USER_IDX the users with fewer than `users` items left, under ITEM_IDX the items with fewer than `items` users.

    `pairs`: distinct (user_idx, item_idx). None for a side of which all are in the core. A pair is in the core when both its ends are.
    Runs two small jobs a turn. What is left is persisted at each turn, and what is found is cut off from where it came from: each turn uses
    the last one's result twice, so plans would double with every turn.
    """
    least = {ITEM_IDX: items, USER_IDX: users}
    gone: dict[str, list[DataFrame]] = {ITEM_IDX: [], USER_IDX: []}
    left = before = pairs.persist()
    for turn, side in enumerate(cycle(least)):
        degrees = left.groupBy(side).agg(F.count(F.lit(1)).alias("n"))
        poor = degrees.where(F.col("n") < least[side]).select(side).localCheckpoint()
        n_poor = poor.count()
        if before is not left:
            before.unpersist()
        # the other side was made sound in the turn before and has lost nothing since
        if n_poor == 0 and turn > 0:
            break
        if n_poor:
            what = "items" if side == ITEM_IDX else "users"
            log.info("clean: k-core turn %d takes away %s %s", turn + 1, f"{n_poor:,}", what)
            gone[side].append(poor)
            # Spark does not know how small `poor` is, and would move `left` to meet it
            few = F.broadcast(poor) if n_poor <= _BROADCAST else poor
            before, left = left, left.join(few, side, "left_anti").persist()
    left.unpersist()
    return {side: reduce(DataFrame.unionAll, frames) if frames else None for side, frames in gone.items()}
