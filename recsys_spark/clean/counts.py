"""What the manifest and the report tell of a cleaned log. Each function runs one job over what was written."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, REASON


def by_reason(quarantine: DataFrame) -> dict[str, int]:
    """Rows of the quarantine by reason."""
    return {row[REASON]: row["count"] for row in quarantine.groupBy(REASON).count().collect()}


def times(interactions: DataFrame) -> dict[str, Any]:
    """events_first and events_last as ISO dates (None without times), and events_by_month as [["YYYY-MM", events], …]."""
    month = F.date_format(EVENT_TS, "yyyy-MM")
    dated = interactions.where(F.col(EVENT_TS).isNotNull()).groupBy(month.alias("month"))
    first, last = (
        edge(EVENT_TS).cast("date").cast("string").alias(name)
        for edge, name in ((F.min, "first"), (F.max, "last"))
    )
    months = sorted(dated.agg(F.count(F.lit(1)).alias("n"), first, last).collect())
    return {
        "events_first": months[0]["first"] if months else None,
        "events_last": months[-1]["last"] if months else None,
        "events_by_month": [[row["month"], row["n"]] for row in months],
    }
