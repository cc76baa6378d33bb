"""Hold out a share of each user's items, chosen by a hash of (seed, user, item): the same whatever the partitions, and without times."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT


def split(interactions: DataFrame, *, valid_share: float, test_share: float, min_train: int, seed: int) -> DataFrame:
    """The table `folds` of `interactions`. Key: user_idx, item_idx.

    Of a user's n pairs, those with the smallest hashes are test, `share_of(n, test_share)` of them, the next are valid. A user who would be left with fewer
    than `min_train` train pairs is all train. A pair knows all its events, since there is no before and after.
    """
    user = Window.partitionBy(USER_IDX)
    pairs = interactions.groupBy(USER_IDX, ITEM_IDX).agg(
        F.min(EVENT_TS).alias(EVENT_TS), F.sum(WEIGHT).cast("float").alias(WEIGHT)
    )
    hashed = F.xxhash64(F.lit(seed).cast("bigint"), USER_IDX, ITEM_IDX)
    placed = pairs.withColumn("__place", F.row_number().over(user.orderBy(hashed, ITEM_IDX)))
    n = F.max("__place").over(user)
    n_test, n_valid = share_of(n, test_share), share_of(n, valid_share)
    fold = (
        F.when(n - n_test - n_valid < min_train, F.lit(TRAIN))
        .when(F.col("__place") <= n_test, F.lit(TEST))
        .when(F.col("__place") <= n_test + n_valid, F.lit(VALID))
        .otherwise(F.lit(TRAIN))
    )
    return placed.select(USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT, fold.alias(FOLD))


def share_of(n: Column, share: float) -> Column:
    """`share` of `n`, rounded half up."""
    return F.floor(n * F.lit(share) + F.lit(0.5))
