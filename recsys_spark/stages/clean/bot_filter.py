"""Finds users with more events than a person can cause."""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TS, REASON, USER_ID
from recsys_spark.stages.clean.checkpointed import checkpointed

log = logging.getLogger(__name__)


def bot_users(
    rows: DataFrame, events: DataFrame, *, max_per_day: int | None, max_total: int | None
) -> DataFrame | None:
    """Return (user_id, detail) of the users with more valid events than `max_per_day` on a day (UTC) or `max_total`.

    None for a limit means no limit. The result is None when no user exceeds a limit. `events` (user_id, n) holds an
    upper bound of each user's valid events. Only users whose bound exceeds a limit are counted by day. Runs one job
    to find them, and a second one if there are any.
    """
    limits = [limit for limit in (max_per_day, max_total) if limit is not None]
    busy = events.where(F.col("n") > min(limits)).select(USER_ID) if limits else None
    if busy is None or busy.isEmpty():
        return None
    valid = rows.where(F.col(REASON).isNull()).join(busy, USER_ID, "left_semi")
    bots, n_bots = checkpointed(_above_limits(valid, max_per_day, max_total))
    if n_bots:
        log.info("clean: %s users exceed the limits on events and count as bots", f"{n_bots:,}")
    return bots if n_bots else None


def _above_limits(rows: DataFrame, max_per_day: int | None, max_total: int | None) -> DataFrame:
    daily = rows.groupBy(USER_ID, F.to_date(EVENT_TS).alias("day")).agg(F.count(F.lit(1)).alias("n"))
    # events without a time count in the total only
    busiest = F.max(F.when(F.col("day").isNotNull(), F.struct("n", "day"))).alias("busiest")
    users = daily.groupBy(USER_ID).agg(busiest, F.sum("n").alias("total"))
    by_day = F.concat(F.col("busiest.n").cast("string"), F.lit(" events on "), F.col("busiest.day").cast("string"))
    by_total = F.concat(F.col("total").cast("string"), F.lit(" events in all"))
    detail = F.coalesce(
        F.when(F.col("busiest.n") > max_per_day, by_day) if max_per_day is not None else F.lit(None),
        F.when(F.col("total") > max_total, by_total) if max_total is not None else F.lit(None),
    )
    return users.select(USER_ID, detail.cast("string").alias(DETAIL)).where(F.col(DETAIL).isNotNull())
