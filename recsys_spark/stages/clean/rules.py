"""The rules a single row must keep, in order: a bad row gets the reason of the first that applies.

Rules that need more than the row follow them, in this order: `duplicate` (dedup.py), `return` and `cancelled_by_return` (returns.py),
`bot_user` (volume.py), `below_k_core` (kcore.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    DETAIL,
    EVENT_TS,
    EVENT_TYPE,
    ITEM_ID,
    PRICE,
    QUANTITY,
    RATING,
    REASON,
    USER_ID,
)
from recsys_spark.stages.clean.parse import NUMBERS, raw, trimmed
from recsys_spark.stages.clean.read import MALFORMED

KNOWN = "__known"
"""Boolean: the item stands in the items file. Only there when items must be known."""

Range = tuple[float, float] | None


@dataclass(frozen=True)
class Rule:
    """A row for which `when` is true is bad (null counts as false); `detail` says what met the rule."""

    reason: str
    when: Column
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
    """The rules for a log whose column `c` is called `names[c]`; columns that it lacks have none."""

    def rule(reason: str, column: str, when: Column) -> Rule:
        return Rule(reason, when, _shown(names[column], F.col(raw(column))))

    rules = [Rule("malformed_row", F.col(MALFORMED).isNotNull(), _shown("line", F.col(MALFORMED)))]
    rules += [
        rule(f"missing_{what}", column, F.col(column).isNull())
        for what, column in (("user", USER_ID), ("item", ITEM_ID))
    ]
    if EVENT_TS in names:
        since = datetime(earliest.year, earliest.month, earliest.day, tzinfo=timezone.utc)
        rules.append(rule("unparsable_time", EVENT_TS, F.col(EVENT_TS).isNull()))
        rules.append(rule("too_old", EVENT_TS, F.col(EVENT_TS) < F.lit(since)))
        rules.append(rule("future_time", EVENT_TS, F.col(EVENT_TS) >= F.lit(cutoff)))
    if EVENT_TYPE in names:
        is_known = F.coalesce(F.col(EVENT_TYPE).isin(*event_types), F.lit(False))
        rules.append(rule("unknown_event_type", EVENT_TYPE, ~is_known))
    numbers = [name for name in NUMBERS if name in names]
    rules += [  # only the text of a row without the number is trimmed
        rule("unparsable_number", n, F.col(n).isNull() & trimmed(F.col(raw(n))).isNotNull()) for n in numbers
    ]
    ranges = {RATING: _outside(F.col(RATING), rating_range), PRICE: _outside(F.col(PRICE), price_range)}
    ranges[QUANTITY] = _bad_quantity(F.col(QUANTITY), quantity_range, returns)
    rules += [rule(f"{n}_out_of_range", n, ranges[n]) for n in numbers]
    if require_known_items:
        rules.append(rule("unknown_item", ITEM_ID, ~F.col(KNOWN)))
    return rules


def judged(rows: DataFrame, rules: list[Rule]) -> DataFrame:
    """`rows` with REASON and DETAIL of the first rule a row breaks, null for a well-formed row. Bad rows lose their time, which may lie
    beyond what other programs read."""
    verdict = F.coalesce(
        *[F.when(rule.when, F.struct(F.lit(rule.reason).alias(REASON), rule.detail.alias(DETAIL))) for rule in rules]
    )
    marked = rows.withColumn("__verdict", verdict)
    reason, detail = F.col(f"__verdict.{REASON}"), F.col(f"__verdict.{DETAIL}")
    time = F.when(reason.isNull(), F.col(EVENT_TS))
    return marked.withColumns({REASON: reason, DETAIL: detail, EVENT_TS: time}).drop("__verdict", KNOWN)


def _outside(value: Column, bounds: Range) -> Column:
    if bounds is None:
        return F.lit(False)
    # bounds as the column's own type, or 0.1 would lie outside a range that begins at 0.1
    low, high = (F.lit(bound).cast("float") for bound in bounds)
    return (value < low) | (value > high)


def _bad_quantity(value: Column, bounds: Range, returns: bool) -> Column:
    """Nothing bought is no event. A return (below 0) is judged by returns.py, or is out of range when returns are off."""
    too_low = value == 0 if returns else value <= 0
    return too_low | ((value > 0) & _outside(value, bounds))


def _shown(name: str, text: Column) -> Column:
    return F.concat(F.lit(f"{name}="), F.coalesce(F.substring(text, 1, 200), F.lit("null")))
