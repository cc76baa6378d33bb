"""Merges the events of each user-item pair into one row."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, ITEM_IDX, USER_IDX, WEIGHT


def merge_events(interactions: DataFrame, *keys: str) -> DataFrame:
    """Return a row for each (user_idx, item_idx, *keys): the time of the first event and the sum of the weights."""
    return interactions.groupBy(USER_IDX, ITEM_IDX, *keys).agg(
        F.min(EVENT_TS).alias(EVENT_TS), F.sum(WEIGHT).cast("float").alias(WEIGHT)
    )
