"""Holds out a share of each user's items at random. Needs no times.

A hash of (seed, user, item) chooses the items, so the result does not depend on the partitions.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT
from recsys_spark.stages.split.merge import merge_events


def split(interactions: DataFrame, *, valid_share: float, test_share: float, min_train: int, seed: int) -> DataFrame:
    """Return the table `folds` of `interactions`, key user_idx, item_idx.

    Of a user's n pairs, `rounded_share(n, test_share)` pairs with the smallest hashes are test, and the next
    `rounded_share(n, valid_share)` are valid. If fewer than `min_train` pairs would remain for train, all pairs of the
    user are train. All events of a pair are visible, because the folds have no order in time.
    """
    user = Window.partitionBy(USER_IDX)
    hashed = F.xxhash64(F.lit(seed).cast("bigint"), USER_IDX, ITEM_IDX)
    pairs = merge_events(interactions).withColumn("__place", F.row_number().over(user.orderBy(hashed, ITEM_IDX)))
    n = F.max("__place").over(user)
    n_test, n_valid = rounded_share(n, test_share), rounded_share(n, valid_share)
    fold = (
        F.when(n - n_test - n_valid < min_train, F.lit(TRAIN))
        .when(F.col("__place") <= n_test, F.lit(TEST))
        .when(F.col("__place") <= n_test + n_valid, F.lit(VALID))
        .otherwise(F.lit(TRAIN))
    )
    return pairs.select(USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT, fold.alias(FOLD))


def rounded_share(n: Column, share: float) -> Column:
    """Return `share` of `n`, rounded half up."""
    return F.floor(n * F.lit(share) + F.lit(0.5))
