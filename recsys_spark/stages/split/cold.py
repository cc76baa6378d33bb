"""Holds out users and items entirely, to measure recommendations for cold users and items.

Nothing that the backtest fits or tunes may depend on them. A hash of (seed, id) chooses them, so the choice depends on
neither the split method nor the partitions, and stays the same from night to night. A pair of a cold user and a cold
item belongs to the fold of cold users. No event of these pairs is left out, because no model is fitted on them.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import COLD_ITEM, COLD_USER, FOLD, ITEM_IDX, USER_IDX
from recsys_spark.stages.split.merge import merge_events

_BUCKETS = 1 << 31


def hold_out(
    interactions: DataFrame, *, user_share: float, item_share: float, seed: int
) -> tuple[DataFrame, DataFrame]:
    """Return the interactions of warm users with warm items, and the rows of table `folds` for all other pairs."""
    cold_user, cold_item = (
        _sampled(COLD_USER, USER_IDX, user_share, seed),
        _sampled(COLD_ITEM, ITEM_IDX, item_share, seed),
    )
    fold = F.when(cold_user, F.lit(COLD_USER)).when(cold_item, F.lit(COLD_ITEM))
    marked = interactions.withColumn(FOLD, fold)
    cold = merge_events(marked.where(F.col(FOLD).isNotNull()), FOLD)
    return marked.where(F.col(FOLD).isNull()).drop(FOLD), cold


def _sampled(fold: str, name: str, share: float, seed: int) -> Column:
    # the fold is hashed too, so that a user and an item with the same number are sampled independently
    hashed = F.xxhash64(F.lit(seed).cast("bigint"), F.lit(fold), F.col(name).cast("bigint"))
    return F.pmod(hashed, F.lit(_BUCKETS)) < int(share * _BUCKETS)
