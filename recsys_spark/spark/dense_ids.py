"""Consecutive numbers for the rows of a sorted Spark frame, without pulling the frame through one partition."""

from __future__ import annotations

from itertools import accumulate

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_AT = "__at"
# monotonically_increasing_id: the partition in the upper bits, the row's position within it in the lower 33
_POSITION_BITS = 33


ONE_PARTITION = 500_000
"""Frames known to be no larger are sorted in one task [rows]."""


def with_dense_index(
    df: DataFrame, order_by: list[str], column: str, start: int, *, at_most: int | None = None
) -> DataFrame:
    """`df` and a bigint `column` that counts start, start + 1, … in ascending order of `order_by`.

    `order_by` must be a unique key of `df`: then a row's number depends on nothing but the data, whatever the partitions. Runs one job: it
    sorts by ranges and counts the rows of each range. The sorted frame stays persisted, because a second sort would cut the ranges
    elsewhere; `spark.catalog.clearCache()` lets it go once the result is written. A frame of which is known that it has `at_most` so few rows
    takes a shorter way, without a job and without a trace.
    """
    if at_most is not None and at_most <= ONE_PARTITION:
        ordered = df.repartition(1).sortWithinPartitions(*order_by)
        return ordered.withColumn(column, F.monotonically_increasing_id() + F.lit(start).cast("bigint"))
    placed = df.orderBy(*order_by).withColumn(_AT, F.monotonically_increasing_id()).persist()
    partition = F.shiftright(_AT, _POSITION_BITS).cast("int")
    sizes = {row["partition"]: row["count"] for row in placed.groupBy(partition.alias("partition")).count().collect()}
    counts = [sizes.get(i, 0) for i in range(max(sizes, default=0) + 1)]
    offsets = F.expr(f"array({', '.join(f'{start + before}L' for before in accumulate(counts[:-1], initial=0))})")
    position = F.col(_AT).bitwiseAND(F.lit((1 << _POSITION_BITS) - 1))
    return placed.withColumn(column, F.get(offsets, partition) + position).drop(_AT)
