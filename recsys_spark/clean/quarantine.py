"""The quarantine table, and the law that no row of the log is lost or counted twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.clean.parse import FIELDS, raw
from recsys_spark.clean.read import FILE, file_name
from recsys_spark.columns import DETAIL, QUANTITY, REASON, ROW, SOURCE_FILE
from recsys_spark.errors import LawBroken


@dataclass(frozen=True)
class Tally:
    """One look at judged rows: how many there are, how many by reason, how many values each mapped column has, and how many well-formed
    rows have a negative quantity."""

    rows: int
    by_reason: dict[str, int]
    values: dict[str, int]
    returns: int


def tally(rows: DataFrame) -> Tally:
    """Count `rows`. Runs one job."""
    mapped = [name for name in FIELDS if raw(name) in rows.columns]
    returns = F.count_if(F.col(QUANTITY) < 0).alias("returns")
    found = (
        rows.groupBy(REASON)
        .agg(F.count(F.lit(1)).alias("n"), returns, *[F.count(raw(name)).alias(name) for name in mapped])
        .collect()
    )
    return Tally(
        rows=sum(row["n"] for row in found),
        by_reason={row[REASON]: row["n"] for row in found if row[REASON]},
        values={name: sum(row[name] for row in found) for name in mapped},
        returns=sum(row["returns"] for row in found if not row[REASON]),
    )


def quarantined(rows: DataFrame) -> DataFrame:
    """The table `quarantine` made of those of `rows` that have a reason."""
    mapped = [name for name in FIELDS if raw(name) in rows.columns]
    return rows.where(F.col(REASON).isNotNull()).select(
        REASON,
        DETAIL,
        file_name(F.col(FILE)).alias(SOURCE_FILE),
        F.to_json(F.struct(*[F.col(raw(name)).alias(name) for name in mapped])).alias(ROW),
    )


def check_rows(rows_in: int, interactions: int, by_reason: Mapping[str, int]) -> None:
    """The law of the stage: rows in = interactions + quarantined."""
    out = sum(by_reason.values())
    if rows_in != interactions + out:
        raise LawBroken(
            f"clean: {rows_in:,} rows came in, but {interactions:,} interactions and {out:,} quarantined rows went out, "
            f"{interactions + out - rows_in:+,}; did the log change while it was read?"
        )


def counted(by_reason: Mapping[str, int]) -> str:
    """Counts by reason as text, largest first."""
    return ", ".join(
        f"{reason} {n:,}" for reason, n in sorted(by_reason.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def none_left(path: str, rows: int, by_reason: Mapping[str, int]) -> str:
    """The message of `AllQuarantined`."""
    return f"paths.events: {path}: all of its {rows:,} rows are quarantined ({counted(by_reason)}); check clean.columns, clean.time_unit and the limits"
