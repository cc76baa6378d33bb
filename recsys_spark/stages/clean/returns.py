"""Returns: a row with a negative quantity takes back what the same user bought of the same item, latest purchases first."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import (
    DETAIL,
    EVENT_TS,
    EVENT_TYPE,
    ITEM_ID,
    PRICE,
    QUANTITY,
    RATING,
    REASON,
    USER_ID,
)
from recsys_spark.stages.clean.checkpointed import pinned
from recsys_spark.stages.clean.read import FILE

_PAIR = [USER_ID, ITEM_ID, EVENT_TYPE]
_TOLERANCE = 1e-6
"""Pieces; quantities like 0.1 + 0.2 - 0.3 do not add up to 0."""


def mark_returns(rows: DataFrame) -> DataFrame:
    """`rows` with reason `return` for every well-formed row of negative quantity, and `cancelled_by_return` for what it takes back.

    A return of n pieces takes back up to n pieces that the same user bought of the same item, with the same event type, at or before the
    return's time: of the latest purchase first, then of the one before it. A row whose pieces are all taken back is cancelled. A row of which
    some are left stays as it is. What a return takes back beyond all purchases is forgotten. Rows without quantity take no part; in a log
    without times all purchases come before all returns.

    Example, one user and one item:

        day       1    2    3    4    5    6
        quantity  +2   +1   -2   +3   -1   -9
        left      2    2,1  1    1,3  1,2  nothing: all three purchases are cancelled, and the other 6 pieces of the last return are forgotten
                            (without day 6, only the purchase of day 2 would be cancelled)

    With b the running sum of quantities, a purchase is taken back in full when and only when b falls, then or later, to what it was before the
    purchase. This needs the pair's running sum and its minimum over the later rows, so two passes over sorted rows, and no loop. Only the
    rows of pairs that have a return are sorted. Runs a job that looks for these pairs, and one that sorts them.
    """
    is_good = F.col(REASON).isNull()
    returned, _ = pinned(rows.where(is_good & (F.col(QUANTITY) < 0)).select(*_PAIR).distinct())
    alone = rows.join(returned, _PAIR, "left_anti")
    moved = rows.join(returned, _PAIR, "left_semi").withColumn("__n", F.when(is_good, F.col(QUANTITY).cast("double")))
    number = F.coalesce(F.col("__n"), F.lit(0.0))
    order: list[Column] = [F.col(EVENT_TS), F.col("__n") < 0, *map(F.col, ("__n", RATING, PRICE, FILE))]
    forward = (
        Window.partitionBy(*_PAIR)
        .orderBy(*[c.asc_nulls_first() for c in order])
        .rowsBetween(Window.unboundedPreceding, 0)
    )
    # the same rows back to front: a frame that ends at the partition's end would be summed anew for every row
    backward = (
        Window.partitionBy(*_PAIR)
        .orderBy(*[c.desc_nulls_last() for c in order])
        .rowsBetween(Window.unboundedPreceding, 0)
    )
    summed = moved.withColumn("__sum", F.sum(number).over(forward)).withColumn(
        "__lowest", F.min("__sum").over(backward)
    )
    cancelled = (F.col("__n") > 0) & (F.col("__lowest") <= F.col("__sum") - F.col("__n") + _TOLERANCE)
    reason = (
        F.when(F.col("__n") < 0, F.lit("return")).when(cancelled, F.lit("cancelled_by_return")).otherwise(F.col(REASON))
    )
    told = F.concat(F.lit("quantity="), F.col(QUANTITY).cast("string"))
    is_new = F.col("__n").isNotNull() & F.col(REASON).isNotNull()
    marked = summed.withColumn(REASON, reason).withColumn(DETAIL, F.when(is_new, told).otherwise(F.col(DETAIL)))
    return alone.unionByName(marked.drop("__n", "__sum", "__lowest").localCheckpoint())
