"""The rules for single rows, in order. An invalid row gets the reason of the first rule that it breaks.

Rules that need more than one row follow in this order: `duplicate` (dedup.py), `return` and `cancelled_by_return`
(returns.py), `bot_user` (bot_filter.py), `below_k_core` (kcore.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TS, EVENT_TYPE, ITEM_ID, PRICE, QUANTITY, RATING, REASON, USER_ID
from recsys_spark.stages.clean.parse import NUMBERS, raw, trimmed
from recsys_spark.stages.clean.read import MALFORMED

KNOWN_ITEM = "__known_item"
"""Boolean column: the items file has the item. Exists only with clean.require_known_items."""

Range = tuple[float, float] | None


@dataclass(frozen=True)
class Rule:
    """A row for which `broken` is true is invalid; null counts as false. `detail` is the column and value at fault."""

    reason: str
    broken: Column
    detail: Column


def row_rules(
    names: Mapping[str, str],
    *,
    earliest: date,
    cutoff: datetime,
    event_types: Iterable[str],
    rating_range: Range,
    quantity_range: Range,
    price_range: Range,
    returns: bool,
    require_known_items: bool,
) -> list[Rule]:
    """Return the rules for a log. `names` maps each column to its name in the log; other columns have no rules."""

    def rule(reason: str, column: str, broken: Column) -> Rule:
        return Rule(reason, broken, _detail(names[column], F.col(raw(column))))

    rules = [
        Rule("malformed_row", F.col(MALFORMED).isNotNull(), _detail("line", F.col(MALFORMED))),
        rule("missing_user", USER_ID, F.col(USER_ID).isNull()),
        rule("missing_item", ITEM_ID, F.col(ITEM_ID).isNull()),
    ]
    if EVENT_TS in names:
        first = datetime(earliest.year, earliest.month, earliest.day, tzinfo=timezone.utc)
        rules += [
            rule("unparsable_time", EVENT_TS, F.col(EVENT_TS).isNull()),
            rule("too_old", EVENT_TS, F.col(EVENT_TS) < F.lit(first)),
            rule("future_time", EVENT_TS, F.col(EVENT_TS) >= F.lit(cutoff)),
        ]
    if EVENT_TYPE in names:
        allowed = F.coalesce(F.col(EVENT_TYPE).isin(*event_types), F.lit(False))
        rules.append(rule("unknown_event_type", EVENT_TYPE, ~allowed))
    numbers = [name for name in NUMBERS if name in names]
    # null is tested first, so only the texts that gave no number are trimmed
    rules += [rule("unparsable_number", n, F.col(n).isNull() & trimmed(F.col(raw(n))).isNotNull()) for n in numbers]
    out_of_range = {
        RATING: _outside(F.col(RATING), rating_range),
        QUANTITY: _invalid_quantity(F.col(QUANTITY), quantity_range, returns),
        PRICE: _outside(F.col(PRICE), price_range),
    }
    rules += [rule(f"{n}_out_of_range", n, out_of_range[n]) for n in numbers]
    if require_known_items:
        rules.append(rule("unknown_item", ITEM_ID, ~F.col(KNOWN_ITEM)))
    return rules


def apply_rules(rows: DataFrame, rules: list[Rule]) -> DataFrame:
    """Return `rows` with REASON and DETAIL of the first rule that a row breaks, both null for a valid row.

    Invalid rows lose their time, because other programs may not be able to read it.
    """
    broken = F.coalesce(
        *[F.when(rule.broken, F.struct(F.lit(rule.reason).alias(REASON), rule.detail.alias(DETAIL))) for rule in rules]
    )
    marked = rows.withColumn("__broken", broken)
    reason, detail = F.col(f"__broken.{REASON}"), F.col(f"__broken.{DETAIL}")
    time = F.when(reason.isNull(), F.col(EVENT_TS))
    return marked.withColumns({REASON: reason, DETAIL: detail, EVENT_TS: time}).drop("__broken", KNOWN_ITEM)


def _outside(value: Column, bounds: Range) -> Column:
    if bounds is None:
        return F.lit(False)
    # the bounds get the column's type, because 0.1 as a double is less than 0.1 as a float
    low, high = (F.lit(bound).cast("float") for bound in bounds)
    return (value < low) | (value > high)


def _invalid_quantity(value: Column, bounds: Range, returns: bool) -> Column:
    """A quantity of 0 is invalid. A negative one is a return, and invalid only when returns are off."""
    too_low = value == 0 if returns else value <= 0
    return too_low | ((value > 0) & _outside(value, bounds))


def _detail(name: str, text: Column) -> Column:
    return F.concat(F.lit(f"{name}="), F.coalesce(F.substring(text, 1, 200), F.lit("null")))
