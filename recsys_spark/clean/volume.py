"""Users whose number of events no person reaches."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TS, REASON, USER_ID


def bots(rows: DataFrame, *, per_day: int | None, in_all: int | None) -> DataFrame:
    """(user_id, detail) of the users with more well-formed events than `per_day` on some day (UTC) or than `in_all`; null: no limit."""
    daily = rows.where(F.col(REASON).isNull()).groupBy(USER_ID, F.to_date(EVENT_TS).alias("day")).agg(F.count(F.lit(1)).alias("n"))
    # a log without times has only the whole
    on_a_day = F.max(F.when(F.col("day").isNotNull(), F.struct("n", "day")))
    users = daily.groupBy(USER_ID).agg(on_a_day.alias("worst"), F.sum("n").alias("total"))
    by_day = F.concat(F.col("worst.n").cast("string"), F.lit(" events on "), F.col("worst.day").cast("string"))
    by_total = F.concat(F.col("total").cast("string"), F.lit(" events in all"))
    found = F.coalesce(
        F.when(F.col("worst.n") > per_day, by_day) if per_day is not None else F.lit(None),
        F.when(F.col("total") > in_all, by_total) if in_all is not None else F.lit(None),
    ).cast("string")
    return users.select(USER_ID, found.alias(DETAIL)).where(F.col(DETAIL).isNotNull())
