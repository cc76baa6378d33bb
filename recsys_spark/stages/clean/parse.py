"""Parses the text columns of the log into typed columns.

A value that cannot be parsed becomes null, and `rules` finds its reason. Nothing fails here. A parsed frame has FILE
and MALFORMED of `read`, and for each mapped column `raw_<column>`, the text as it was read. Its typed columns are
`user_id`, `item_id`, `event_type` (string), `event_ts` (timestamp) and `rating`, `quantity`, `price` (float). They are
null where the log has no such column.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, EVENT_TYPE, ITEM_ID, PRICE, QUANTITY, RATING, USER_ID

FIELDS = (USER_ID, ITEM_ID, EVENT_TS, EVENT_TYPE, RATING, QUANTITY, PRICE)
NUMBERS = (RATING, QUANTITY, PRICE)
_MICROSECONDS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0}
_MAX_TIMESTAMP = 9.2e18
"""Microseconds, just below the largest timestamp."""
# trim() alone removes only plain blanks; this adds the no-break space and others
_BLANKS = " \t\r\n\u00a0\u3000\ufeff"
# Spark's cast also accepts '2026' as a year and '12:30' as a time of today
_ISO = r"^\s*\d{4}-\d{1,2}-\d{1,2}([T ].*)?$"


def raw(name: str) -> str:
    """Return the name of the column with the unparsed text of `name`."""
    return f"raw_{name}"


def trimmed(column: Column) -> Column:
    """Return the text without leading and trailing blanks, or null when nothing remains."""
    text = F.trim(column, F.lit(_BLANKS))
    return F.when(text != "", text)


def parse(rows: DataFrame, *, time_unit: str, default_event_type: str) -> DataFrame:
    """Return `rows` with the seven typed columns. `time_unit` is iso, s, ms or us."""
    mapped = set(rows.columns)

    def text(name: str) -> Column:
        return F.col(raw(name)) if raw(name) in mapped else F.lit(None).cast("string")

    return rows.select(
        "*",
        trimmed(text(USER_ID)).alias(USER_ID),
        trimmed(text(ITEM_ID)).alias(ITEM_ID),
        _timestamp(text(EVENT_TS), time_unit).alias(EVENT_TS),
        (trimmed(text(EVENT_TYPE)) if raw(EVENT_TYPE) in mapped else F.lit(default_event_type)).alias(EVENT_TYPE),
        *[_number(text(name)).alias(name) for name in NUMBERS],
    )


def _timestamp(text: Column, unit: str) -> Column:
    """Return a UTC timestamp, or null when the text is invalid or out of range."""
    if unit == "iso":
        return F.when(text.rlike(_ISO), text.try_cast("timestamp"))
    microseconds = text.try_cast("double") * F.lit(_MICROSECONDS[unit])
    # NaN compares as greater than every number, so the condition rejects it too
    in_range = F.abs(microseconds) < _MAX_TIMESTAMP
    return F.when(in_range, F.timestamp_micros(F.round(microseconds).cast("bigint")))


def _number(text: Column) -> Column:
    value = text.try_cast("float")
    return F.when(F.abs(value) < F.lit(float("inf")), value)
