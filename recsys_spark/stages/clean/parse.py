"""Text of the log to typed columns. What cannot be typed becomes null here and gets its reason in `rules`; nothing ever fails.

A frame of rows has, beside FILE and MALFORMED of `read`: `raw_<column>` text as it was read, for each mapped column; and the typed
`user_id item_id event_type` string, `event_ts` timestamp, `rating quantity price` float, null where the log has no such column.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, EVENT_TYPE, ITEM_ID, PRICE, QUANTITY, RATING, USER_ID

FIELDS = (USER_ID, ITEM_ID, EVENT_TS, EVENT_TYPE, RATING, QUANTITY, PRICE)
NUMBERS = (RATING, QUANTITY, PRICE)
_SECOND = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0}
_LARGEST = 9.2e18
"""Just below the largest timestamp, in microseconds."""
# blanks, the no-break space among them: trim() alone takes only the first of these
_BLANKS = " \t\r\n\u00a0\u3000\ufeff"
# Spark's own cast also takes '2026' for a year and '12:30' for a time of today
_ISO = r"^\s*\d{4}-\d{1,2}-\d{1,2}([T ].*)?$"


def raw(name: str) -> str:
    """Name of the column with the text of `name`."""
    return f"raw_{name}"


def trimmed(column: Column) -> Column:
    """The text without blanks at its ends; null when nothing is left."""
    text = F.trim(column, F.lit(_BLANKS))
    return F.when(text != "", text)


def typed(rows: DataFrame, *, time_unit: str, default_event_type: str) -> DataFrame:
    """`rows` with the seven typed columns. `time_unit` is iso, s, ms or us."""
    have = set(rows.columns)

    def column(name: str) -> Column:
        return F.col(raw(name)) if raw(name) in have else F.lit(None).cast("string")

    return rows.select(
        "*",
        trimmed(column(USER_ID)).alias(USER_ID),
        trimmed(column(ITEM_ID)).alias(ITEM_ID),
        _moment(column(EVENT_TS), time_unit).alias(EVENT_TS),
        (trimmed(column(EVENT_TYPE)) if raw(EVENT_TYPE) in have else F.lit(default_event_type)).alias(EVENT_TYPE),
        *[_number(column(name)).alias(name) for name in NUMBERS],
    )


def _moment(text: Column, unit: str) -> Column:
    """UTC timestamp; null when unreadable or beyond what a timestamp holds."""
    if unit == "iso":
        return F.when(text.rlike(_ISO), text.try_cast("timestamp"))
    micros = text.try_cast("double") * F.lit(_SECOND[unit])
    # NaN is above every number, so it fails the comparison as well
    return F.when(F.abs(micros) < _LARGEST, F.timestamp_micros(F.round(micros).cast("bigint")))


def _number(text: Column) -> Column:
    value = text.try_cast("float")
    return F.when(F.abs(value) < F.lit(float("inf")), value)
