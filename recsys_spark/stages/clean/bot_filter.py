"""Users whose number of events no person reaches."""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TS, REASON, USER_ID
from recsys_spark.stages.clean.checkpointed import pinned

log = logging.getLogger(__name__)


def bots(rows: DataFrame, events: DataFrame, *, per_day: int | None, in_all: int | None) -> DataFrame | None:
    """(user_id, detail) of the users with more well-formed events than `per_day` on some day (UTC) or than `in_all`; None: no limit.

    `events` (user_id, n) holds at least as many events a user as are well-formed: only users who reach a limit there are counted day by day. Runs a
    job for them, and another if there are any. None when nobody is above a limit.
    """
    limits = [limit for limit in (per_day, in_all) if limit is not None]
    busy = events.where(F.col("n") > min(limits)).select(USER_ID) if limits else None
    if busy is None or busy.isEmpty():
        return None
    good = rows.where(F.col(REASON).isNull()).join(busy, USER_ID, "left_semi")
    found, n = pinned(_above(good, per_day, in_all))
    if n:
        log.info("clean: %s users of bot-like volume", f"{n:,}")
    return found if n else None


def _above(rows: DataFrame, per_day: int | None, in_all: int | None) -> DataFrame:
    daily = rows.groupBy(USER_ID, F.to_date(EVENT_TS).alias("day")).agg(F.count(F.lit(1)).alias("n"))
    # a log without times has only the whole
    on_a_day = F.max(F.when(F.col("day").isNotNull(), F.struct("n", "day")))
    users = daily.groupBy(USER_ID).agg(on_a_day.alias("worst"), F.sum("n").alias("total"))
    by_day = F.concat(F.col("worst.n").cast("string"), F.lit(" events on "), F.col("worst.day").cast("string"))
    by_total = F.concat(F.col("total").cast("string"), F.lit(" events in all"))
    found = F.coalesce(
        F.when(F.col("worst.n") > per_day, by_day) if per_day is not None else F.lit(None),
        F.when(F.col("total") > in_all, by_total) if in_all is not None else F.lit(None),
    )
    return users.select(USER_ID, found.cast("string").alias(DETAIL)).where(F.col(DETAIL).isNotNull())
