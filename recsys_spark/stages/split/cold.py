"""Hold out users and items whole, to measure how newcomers are served: nothing that the backtest fits or chooses knows of them.

A user is chosen by a hash of (seed, user), an item by one of (seed, item): the same whatever the method and the partitions, and the same from night to
night. All that a cold user had stands in one fold, so a pair of a cold user with a cold item is the user's. Such pairs know all their events, since
nothing is learned from them.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import COLD_ITEM, COLD_USER, EVENT_TS, FOLD, ITEM_IDX, USER_IDX, WEIGHT

_STEPS = 1 << 31


def part(interactions: DataFrame, *, user_share: float, item_share: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """The interactions of warm users with warm items, and the table `folds` of all others. Key: user_idx, item_idx."""
    fold = F.when(_chosen(COLD_USER, USER_IDX, user_share, seed), F.lit(COLD_USER)).when(
        _chosen(COLD_ITEM, ITEM_IDX, item_share, seed), F.lit(COLD_ITEM)
    )
    placed = interactions.withColumn(FOLD, fold)
    cold = placed.where(F.col(FOLD).isNotNull())
    pairs = cold.groupBy(USER_IDX, ITEM_IDX, FOLD).agg(
        F.min(EVENT_TS).alias(EVENT_TS), F.sum(WEIGHT).cast("float").alias(WEIGHT)
    )
    return placed.where(F.col(FOLD).isNull()).drop(FOLD), pairs


def _chosen(fold: str, name: str, share: float, seed: int) -> Column:
    # with the fold's name, or a user would fare as the item of the same number
    hashed = F.xxhash64(F.lit(seed).cast("bigint"), F.lit(fold), F.col(name).cast("bigint"))
    return F.pmod(hashed, F.lit(_STEPS)) < int(share * _STEPS)
