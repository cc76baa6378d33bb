"""Tests the rules for single rows, with one row for each reason, and the typed columns."""

from datetime import date, datetime, timezone

import pytest

from recsys_spark.stages.clean.parse import parse, raw
from recsys_spark.stages.clean.quarantine import count_log, quarantine_table
from recsys_spark.stages.clean.read import FILE, MALFORMED
from recsys_spark.stages.clean.rules import apply_rules, row_rules

NAMES = {
    "user_id": "visitor",
    "item_id": "product",
    "event_ts": "at",
    "event_type": "kind",
    "rating": "stars",
    "quantity": "pieces",
    "price": "paid",
}
VALID = {
    "user_id": "ann",
    "item_id": "tea",
    "event_ts": "2026-02-01",
    "event_type": "view",
    "rating": "4",
    "quantity": "2",
    "price": "1.5",
}
DEFAULTS = {
    "earliest": date(2000, 1, 1),
    "cutoff": datetime(2026, 3, 1, tzinfo=timezone.utc),
    "event_types": ["view", "purchase"],
    "rating_range": (1.0, 5.0),
    "quantity_range": (0.1, 100.0),
    "price_range": (0.0, 1000.0),
    "returns": True,
    "require_known_items": False,
}

# (change to the valid row, reason, detail); a row that breaks several rules has the reason of the first
CASES = [
    ({}, None, None),
    ({"user_id": None}, "missing_user", "visitor=null"),
    ({"user_id": " \u00a0\t"}, "missing_user", "visitor= \u00a0\t"),
    ({"user_id": "", "item_id": "", "event_ts": "x"}, "missing_user", "visitor="),
    ({"item_id": None}, "missing_item", "product=null"),
    ({"event_ts": None}, "unparsable_time", "at=null"),
    ({"event_ts": "yesterday"}, "unparsable_time", "at=yesterday"),
    ({"event_ts": "2026"}, "unparsable_time", "at=2026"),
    ({"event_ts": "12:30:00"}, "unparsable_time", "at=12:30:00"),
    ({"event_ts": "2026-02-30"}, "unparsable_time", "at=2026-02-30"),
    ({"event_ts": "1999-12-31T23:59:59.999999Z"}, "too_old", "at=1999-12-31T23:59:59.999999Z"),
    ({"event_ts": "2000-01-01"}, None, None),
    ({"event_ts": "2026-02-28T23:59:59.999999"}, None, None),
    ({"event_ts": "2026-03-01T00:00:00"}, "future_time", "at=2026-03-01T00:00:00"),
    ({"event_ts": "2026-03-01T00:30:00+01:00"}, None, None),
    ({"event_ts": "9999-12-31"}, "future_time", "at=9999-12-31"),
    ({"event_type": "sneeze"}, "unknown_event_type", "kind=sneeze"),
    ({"event_type": None}, "unknown_event_type", "kind=null"),
    ({"event_type": " view "}, None, None),
    ({"rating": "four", "price": "-1"}, "unparsable_number", "stars=four"),
    ({"rating": "NaN"}, "unparsable_number", "stars=NaN"),
    ({"quantity": "1e400"}, "unparsable_number", "pieces=1e400"),
    ({"price": "Infinity"}, "unparsable_number", "paid=Infinity"),
    ({"rating": None, "quantity": " ", "price": ""}, None, None),
    ({"rating": "5.5"}, "rating_out_of_range", "stars=5.5"),
    ({"rating": "5"}, None, None),
    ({"quantity": "0"}, "quantity_out_of_range", "pieces=0"),
    ({"quantity": "101"}, "quantity_out_of_range", "pieces=101"),
    ({"quantity": "0.1"}, None, None),
    ({"quantity": "-101"}, None, None),  # a return, to which the range does not apply
    ({"price": "-0.01"}, "price_out_of_range", "paid=-0.01"),
    ({"malformed": 'ann,tea,"'}, "malformed_row", 'line=ann,tea,"'),
]


def _frame(spark, rows, names=NAMES):
    ddl = ", ".join(f"`{raw(name)}` string" for name in names) + f", `{FILE}` string, `{MALFORMED}` string"
    values = [
        (*[row.get(name) for name in names], row.get("file", "file:/logs/a%20b+.csv"), row.get("malformed"))
        for row in rows
    ]
    return spark.createDataFrame(values, ddl)


def _checked(spark, rows, names=NAMES, time_unit="iso", **changes):
    frame = parse(_frame(spark, rows, names), time_unit=time_unit, default_event_type="view")
    return apply_rules(frame, row_rules(names, **{**DEFAULTS, **changes}))


@pytest.fixture(scope="module")
def cases(spark):
    frame = _checked(spark, [{**VALID, **change} for change, _, _ in CASES]).coalesce(1).persist()
    return frame, frame.collect(), [row.asDict() for row in quarantine_table(frame).collect()]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{reason}-{change}" for change, reason, _ in CASES])
def test_a_row_has_the_reason_of_the_first_broken_rule(cases, number):
    assert cases[1][number]["reason"] == CASES[number][1]


def test_the_quarantine_has_the_value_the_file_and_the_raw_row(cases):
    expected = [(reason, detail) for _, reason, detail in CASES if reason]
    assert [(row["reason"], row["detail"]) for row in cases[2]] == expected
    assert {row["source_file"] for row in cases[2]} == {"/logs/a b+.csv"}
    assert cases[2][1]["row"] == (
        '{"user_id":" \u00a0\\t","item_id":"tea","event_ts":"2026-02-01","event_type":"view",'
        '"rating":"4","quantity":"2","price":"1.5"}'
    )


def test_reasons_values_and_returns_are_counted(cases):
    rows, log_counts = count_log(cases[0], {reason for _, reason, _ in CASES if reason})
    rows.write.format("noop").mode("append").save()
    counts = log_counts()
    assert counts.rows == len(CASES)
    assert counts.by_reason["missing_user"] == 3
    assert sum(counts.by_reason.values()) == sum(reason is not None for _, reason, _ in CASES)
    assert counts.values["user_id"] == len(CASES) - 1
    assert counts.returns == 1


def test_a_negative_quantity_is_out_of_range_without_returns(spark):
    frame = _checked(spark, [{**VALID, "quantity": "-1"}, VALID], returns=False)
    assert [row["reason"] for row in frame.collect()] == ["quantity_out_of_range", None]


@pytest.mark.parametrize("unit, scale", [("s", 1), ("ms", 10**3), ("us", 10**6)])
def test_numeric_times_are_parsed(spark, unit, scale):
    second = 1_767_225_600  # 2026-01-01
    texts = [
        str(second * scale),
        f"{second * scale}.0",
        "nan",
        "1e300",
        "-1e300",
        "",
        "2026-01-01",
        str(second * 1000 * scale),
    ]
    frame = _checked(spark, [{**VALID, "event_ts": text} for text in texts], time_unit=unit)
    rows = frame.select(
        "reason", (frame.event_ts == datetime(2026, 1, 1, tzinfo=timezone.utc)).alias("equal")
    ).collect()
    assert [row["equal"] for row in rows] == [True, True, *[None] * 6]
    assert [row["reason"] for row in rows[2:]] == ["unparsable_time"] * 5 + ["future_time"]


def test_a_log_with_ids_only(spark):
    frame = _checked(spark, [{"user_id": "ann", "item_id": " tea "}], names={"user_id": "u", "item_id": "i"})
    row = frame.first()
    assert (row["item_id"], row["event_ts"], row["event_type"], row["rating"], row["reason"]) == (
        "tea",
        None,
        "view",
        None,
        None,
    )
