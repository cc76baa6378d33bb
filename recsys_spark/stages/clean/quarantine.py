"""The quarantine table, and the law that no row of the log is lost or counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, QUANTITY, REASON, ROW, SOURCE_FILE
from recsys_spark.errors import ContractViolation
from recsys_spark.stages.clean.parse import FIELDS, raw
from recsys_spark.stages.clean.passing import counting
from recsys_spark.stages.clean.read import FILE, file_name


@dataclass(frozen=True)
class Tally:
    """One look at judged rows: how many there are, how many by reason, how many values each mapped column has, and how many well-formed
    rows have a negative quantity."""

    rows: int
    by_reason: dict[str, int]
    values: dict[str, int]
    returns: int


def tallied(rows: DataFrame, reasons: Iterable[str]) -> tuple[DataFrame, Callable[[], Tally]]:
    """`rows`, which are counted as they pass, and what to call for the counts after the one action on them. `reasons` are all that may occur."""
    mapped = [name for name in FIELDS if raw(name) in rows.columns]
    reasons = list(dict.fromkeys(reasons))
    watched, seen = counting(
        rows,
        {
            "rows": F.count(F.lit(1)),
            "returns": F.count_if(F.col(REASON).isNull() & (F.col(QUANTITY) < 0)),
            **{raw(name): F.count(raw(name)) for name in mapped},
            **{reason: F.count_if(F.col(REASON) == reason) for reason in reasons},
        },
    )

    def tally() -> Tally:
        found = seen()
        return Tally(
            rows=found["rows"],
            by_reason={reason: found[reason] for reason in reasons if found[reason]},
            values={name: found[raw(name)] for name in mapped},
            returns=found["returns"],
        )

    return watched, tally


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
        raise ContractViolation(
            f"clean: {rows_in:,} rows came in, but {interactions:,} interactions and {out:,} quarantined rows went out, "
            f"{interactions + out - rows_in:+,}; did the log change while it was read?"
        )


def counted(by_reason: Mapping[str, int]) -> str:
    """Counts by reason as text, largest first."""
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(by_reason.items(), key=lambda pair: (-pair[1], pair[0])))


def none_left(path: str, rows: int, by_reason: Mapping[str, int]) -> str:
    """The message of `AllQuarantined`."""
    return f"paths.events: {path}: all of its {rows:,} rows are quarantined ({counted(by_reason)}); check clean.columns, clean.time_unit and the limits"
