"""Computes the k-core of the user-item graph.

The k-core is the largest set of users and items in which every user has enough of the items and every item enough of
the users. Source: Seidman (1983), Network structure and minimum degree, Social Networks 5(3), here for a bipartite
graph with one threshold for each side.
"""

from __future__ import annotations

import logging
from itertools import cycle

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import ITEM_IDX, USER_IDX
from recsys_spark.stages.clean.checkpointed import checkpointed

log = logging.getLogger(__name__)


def outside_core(pairs: DataFrame, *, min_items: int, min_users: int) -> dict[str, DataFrame | None]:
    """Return the users (key USER_IDX) and items (key ITEM_IDX) that are not in the core, None for a side without any.

    `pairs` are distinct (user_idx, item_idx). In the core a user has at least `min_items` items and an item at least
    `min_users` users. Removing nodes of one side lowers degrees on the other, so the sides alternate until one has
    nothing to remove. The order does not change the result. `pairs` are persisted. Each turn runs a few small jobs.
    """
    min_degree = {ITEM_IDX: min_users, USER_IDX: min_items}
    removed: dict[str, DataFrame | None] = {ITEM_IDX: None, USER_IDX: None}
    pairs = pairs.persist()
    for turn, side in enumerate(cycle(min_degree)):
        remaining = _without(_without(pairs, removed[ITEM_IDX], ITEM_IDX), removed[USER_IDX], USER_IDX)
        degrees = remaining.groupBy(side).agg(F.count(F.lit(1)).alias("n"))
        below, n_below = checkpointed(degrees.where(F.col("n") < min_degree[side]).select(side))
        # the previous turn made the other side valid, and nothing was removed since
        if n_below == 0 and turn > 0:
            break
        if n_below:
            name = "items" if side == ITEM_IDX else "users"
            log.info("clean: k-core, turn %d removes %s %s", turn + 1, f"{n_below:,}", name)
            earlier = removed[side]
            removed[side] = below if earlier is None else checkpointed(earlier.unionAll(below))[0]
    pairs.unpersist()
    return removed


def _without(pairs: DataFrame, removed: DataFrame | None, side: str) -> DataFrame:
    return pairs if removed is None else pairs.join(removed, side, "left_anti")
