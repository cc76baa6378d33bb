"""What the manifest and the report tell of a cleaned log, counted in what was written."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, REASON


def of_log(interactions: DataFrame, quarantine: DataFrame) -> tuple[dict[str, int], dict[str, Any]]:
    """Rows of the quarantine by reason; and events_first and events_last as ISO dates (None without times), events_by_month as
    [["YYYY-MM", events], …]. Runs one job."""
    n = F.count(F.lit(1)).alias("n")
    days = interactions.groupBy(F.to_date(EVENT_TS).alias("day")).agg(n)
    reasons = quarantine.groupBy(REASON).agg(n)
    both = days.select("day", F.lit(None).cast("string").alias(REASON), "n").unionAll(
        reasons.select(F.lit(None).cast("date"), REASON, "n")
    )
    rows = both.collect()
    events = {row["day"].isoformat(): row["n"] for row in rows if row["day"]}
    by_month: Counter[str] = Counter()
    for day, n in events.items():
        by_month[day[:7]] += n
    return {row[REASON]: row["n"] for row in rows if row[REASON]}, {
        "events_first": min(events, default=None),
        "events_last": max(events, default=None),
        "events_by_month": [[month, n] for month, n in sorted(by_month.items())],
    }
