"""Finds returns, which are events with a negative quantity, and the purchases that they cancel."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TS, EVENT_TYPE, ITEM_ID, PRICE, QUANTITY, RATING, REASON, USER_ID
from recsys_spark.stages.clean.checkpointed import checkpointed
from recsys_spark.stages.clean.read import FILE

_GROUP = [USER_ID, ITEM_ID, EVENT_TYPE]
_TOLERANCE = 1e-6
"""Pieces. Floating-point quantities such as 0.1 + 0.2 - 0.3 do not add up to 0."""


def mark_returns(rows: DataFrame) -> DataFrame:
    """Return `rows` with reason `return` on valid returns and `cancelled_by_return` on purchases returned in full.

    A return of n pieces takes back up to n pieces of the same user, item and event type that were bought at or before
    its time. It starts with the latest purchase. A purchase is cancelled when all its pieces are taken back. A purchase
    returned in part stays valid and unchanged. Pieces returned beyond all purchases are ignored. Rows without quantity
    take no part. In a log without times all purchases come before all returns.

    Example with one user and one item:

        day            1    2    3    4    5    6
        quantity      +2   +1   -2   +3   -1   -9
        pieces left    2  2,1    1  1,3  1,2    0

    After day 5 the purchase of day 2 is cancelled. After day 6 all three purchases are, and 6 pieces are ignored.

    Only the (user, item, event type) groups with a return are sorted. Runs one job to find them and one to sort them.
    """
    is_valid = F.col(REASON).isNull()
    groups, _ = checkpointed(rows.where(is_valid & (F.col(QUANTITY) < 0)).select(*_GROUP).distinct())
    others = rows.join(groups, _GROUP, "left_anti")
    affected = rows.join(groups, _GROUP, "left_semi")
    affected = affected.withColumn("__n", F.when(is_valid, F.col(QUANTITY).cast("double")))
    reason = F.when(F.col("__n") < 0, F.lit("return")).when(F.col("__cancelled"), F.lit("cancelled_by_return"))
    quantity = F.concat(F.lit("quantity="), F.col(QUANTITY).cast("string"))
    marked = _with_cancelled(affected).withColumn("__reason", reason)
    marked = marked.withColumns(
        {
            REASON: F.coalesce("__reason", REASON),
            DETAIL: F.when(F.col("__reason").isNotNull(), quantity).otherwise(F.col(DETAIL)),
        }
    )
    return others.unionByName(marked.drop("__n", "__cancelled", "__reason").localCheckpoint())


def _with_cancelled(rows: DataFrame) -> DataFrame:
    """Return `rows` with the boolean `__cancelled`: a purchase whose pieces are all taken back.

    Let s be the running sum of the quantities `__n`. A purchase is returned in full if and only if s, at a later row,
    is not above its value before the purchase. So the minimum of s over the later rows decides.
    """
    order: list[Column] = [F.col(EVENT_TS), F.col("__n") < 0, *map(F.col, ("__n", RATING, PRICE, FILE))]
    window = Window.partitionBy(*_GROUP).rowsBetween(Window.unboundedPreceding, 0)
    forward = window.orderBy(*[column.asc_nulls_first() for column in order])
    # reversed order: Spark would compute a frame up to the partition's end anew for every row
    backward = window.orderBy(*[column.desc_nulls_last() for column in order])
    running = F.sum(F.coalesce("__n", F.lit(0.0))).over(forward)
    summed = rows.withColumn("__sum", running).withColumn("__lowest", F.min("__sum").over(backward))
    cancelled = (F.col("__n") > 0) & (F.col("__lowest") <= F.col("__sum") - F.col("__n") + _TOLERANCE)
    return summed.withColumn("__cancelled", cancelled).drop("__sum", "__lowest")
