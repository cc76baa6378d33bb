"""The quarantine table, counts of the log, and the check that no row is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TS, QUANTITY, REASON, ROW, SOURCE_FILE
from recsys_spark.errors import AllQuarantined, ContractViolation
from recsys_spark.stages.clean.checkpointed import observed
from recsys_spark.stages.clean.parse import FIELDS, raw
from recsys_spark.stages.clean.read import FILE, file_name


@dataclass(frozen=True)
class LogCounts:
    """Counts of the log after the rules for single rows.

    `values` is the number of rows with a value in each mapped column. `returns` is the number of valid returns.
    """

    rows: int
    by_reason: dict[str, int]
    values: dict[str, int]
    returns: int


def count_log(rows: DataFrame, reasons: Iterable[str]) -> tuple[DataFrame, Callable[[], LogCounts]]:
    """Return `rows` and a function that returns their counts. Call it after the only action on the returned frame.

    `reasons` are all reasons that can occur in `rows`.
    """
    mapped = [name for name in FIELDS if raw(name) in rows.columns]
    reasons = list(dict.fromkeys(reasons))
    rows, counts = observed(
        rows,
        {
            "rows": F.count(F.lit(1)),
            "returns": F.count_if(F.col(REASON).isNull() & (F.col(QUANTITY) < 0)),
            **{raw(name): F.count(raw(name)) for name in mapped},
            **{reason: F.count_if(F.col(REASON) == reason) for reason in reasons},
        },
    )

    def log_counts() -> LogCounts:
        n = counts()
        by_reason = {reason: n[reason] for reason in reasons if n[reason]}
        return LogCounts(n["rows"], by_reason, {name: n[raw(name)] for name in mapped}, n["returns"])

    return rows, log_counts


def quarantine_table(rows: DataFrame) -> DataFrame:
    """Return the table `quarantine`: the rows with a reason."""
    mapped = [name for name in FIELDS if raw(name) in rows.columns]
    return rows.where(F.col(REASON).isNotNull()).select(
        REASON,
        DETAIL,
        file_name(F.col(FILE)).alias(SOURCE_FILE),
        F.to_json(F.struct(*[F.col(raw(name)).alias(name) for name in mapped])).alias(ROW),
    )


def count_written(interactions: DataFrame, quarantine: DataFrame) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the quarantined rows by reason, and the time span of the interactions for the manifest.

    The time span has events_first and events_last as ISO dates, None in a log without times, and events_by_month as
    [["YYYY-MM", events], …]. Runs one job.
    """
    n = F.count(F.lit(1)).alias("n")
    days = interactions.groupBy(F.to_date(EVENT_TS).alias("day")).agg(n)
    reasons = quarantine.groupBy(REASON).agg(n)
    rows = (
        days.select("day", F.lit(None).cast("string").alias(REASON), "n")
        .unionAll(reasons.select(F.lit(None).cast("date"), REASON, "n"))
        .collect()
    )
    by_day = {row["day"].isoformat(): row["n"] for row in rows if row["day"]}
    by_month: Counter[str] = Counter()
    for day, events in by_day.items():
        by_month[day[:7]] += events
    return {row[REASON]: row["n"] for row in rows if row[REASON]}, {
        "events_first": min(by_day, default=None),
        "events_last": max(by_day, default=None),
        "events_by_month": [[month, events] for month, events in sorted(by_month.items())],
    }


def check_no_row_lost(rows_in: int, interactions: int, by_reason: Mapping[str, int]) -> None:
    """Raise `ContractViolation` unless rows in = interactions + quarantined rows."""
    quarantined = sum(by_reason.values())
    if rows_in != interactions + quarantined:
        raise ContractViolation(
            f"clean: {rows_in:,} rows were read, but {interactions:,} interactions and {quarantined:,} quarantined "
            f"rows were written ({interactions + quarantined - rows_in:+,}). The log may have changed during the run. "
            "Run the stage again"
        )


def format_counts(by_reason: Mapping[str, int]) -> str:
    """Return counts by reason as text, largest first."""
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(by_reason.items(), key=lambda pair: (-pair[1], pair[0])))


def all_quarantined(path: str, rows: int, by_reason: Mapping[str, int], example: str = "") -> AllQuarantined:
    """Return the error for a log without interactions. `example` is a sentence."""
    return AllQuarantined(
        f"paths.events: {path}: all {rows:,} rows are quarantined ({format_counts(by_reason)}). {example}"
        "Check clean.columns, clean.time_unit and the limits in clean"
    )
