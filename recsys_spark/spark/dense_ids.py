"""Numbers the rows of a sorted Spark frame consecutively, without pulling the frame through one partition."""

from __future__ import annotations

from itertools import accumulate

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_PLACE = "__place"
# monotonically_increasing_id: the partition in the upper bits, the row's position within it in the lower 33
_POSITION_BITS = 33


ONE_PARTITION = 500_000
"""Frames of at most so many rows are sorted in one task."""


def with_dense_index(
    df: DataFrame, order_by: list[str], column: str, start: int, *, at_most: int | None = None
) -> DataFrame:
    """Return `df` with a bigint `column` that counts start, start + 1, … in ascending order of `order_by`.

    `order_by` must be a unique key of `df`. Then a row's number depends only on the data, not on the partitions.

    Runs one job: it sorts by ranges and counts the rows of each range. The sorted frame stays persisted, because a
    second sort could choose other ranges. `spark.catalog.clearCache()` frees it after the result is written. If
    `at_most`, an upper bound of the number of rows, is small, one task sorts the frame: no job runs and nothing is
    persisted.
    """
    if at_most is not None and at_most <= ONE_PARTITION:
        ordered = df.repartition(1).sortWithinPartitions(*order_by)
        return ordered.withColumn(column, F.monotonically_increasing_id() + F.lit(start).cast("bigint"))
    placed = df.orderBy(*order_by).withColumn(_PLACE, F.monotonically_increasing_id()).persist()
    partition = F.shiftright(_PLACE, _POSITION_BITS).cast("int")
    sizes = {row["partition"]: row["count"] for row in placed.groupBy(partition.alias("partition")).count().collect()}
    counts = [sizes.get(i, 0) for i in range(max(sizes, default=0) + 1)]
    offsets = F.expr(f"array({', '.join(f'{start + before}L' for before in accumulate(counts[:-1], initial=0))})")
    position = F.col(_PLACE).bitwiseAND(F.lit((1 << _POSITION_BITS) - 1))
    return placed.withColumn(column, F.get(offsets, partition) + position).drop(_PLACE)
