"""Tests the rules on several rows: duplicates, returns and bots. The rows have passed the rules for single rows."""

import random
from collections import defaultdict

import pytest
from pyspark.sql import functions as F

from factories import moment
from recsys_spark.stages.clean.bot_filter import bot_users
from recsys_spark.stages.clean.dedup import mark_duplicates
from recsys_spark.stages.clean.returns import mark_returns

DDL = (
    "raw_rating string, __file string, user_id string, item_id string, event_ts timestamp, event_type string, "
    "rating float, quantity float, price float, reason string, detail string"
)


def _rows(spark, rows):
    """Return a frame of rows given as (user, item, day, changes)."""
    columns = (
        "raw_rating",
        "__file",
        "user_id",
        "item_id",
        "event_ts",
        "event_type",
        "rating",
        "quantity",
        "price",
        "reason",
        "detail",
    )
    values = []
    for user, item, day, change in rows:
        at = None if day is None else moment(day)
        row = {
            "user_id": user,
            "item_id": item,
            "event_ts": at,
            "event_type": "view",
            "__file": "a",
            **change,
        }
        values.append(tuple(row.get(name) for name in columns))
    return spark.createDataFrame(values, DDL)


def test_the_duplicate_in_the_first_file_is_kept(spark):
    rows = _rows(
        spark,
        [
            ("ann", "tea", 1, {"__file": "b", "rating": 5.0, "raw_rating": "5"}),
            ("ann", "tea", 1, {"__file": "a", "rating": 5.0, "raw_rating": "5.0"}),
            ("ann", "tea", 1, {"__file": "c", "rating": 5.0, "raw_rating": "5"}),
            ("ann", "tea", 1, {"__file": "c", "rating": 4.0, "raw_rating": "4"}),
            ("ann", "tea", 2, {"__file": "c", "rating": 5.0, "raw_rating": "5"}),
            ("ann", "tea", 1, {"__file": "a", "rating": 5.0, "raw_rating": "5", "reason": "too_old"}),
        ],
    )
    invalid = sorted(
        (row["__file"], row["raw_rating"], row["event_ts"].day, row["reason"])
        for row in mark_duplicates(rows).collect()
        if row["reason"]
    )
    assert invalid == [("a", "5", 2, "too_old"), ("b", "5", 2, "duplicate"), ("c", "5", 2, "duplicate")]
    assert mark_duplicates(rows).count() == 6


def test_a_log_without_duplicates_is_returned_unchanged(spark):
    rows = _rows(spark, [("ann", "tea", 1, {}), ("ann", "tea", 2, {}), ("bob", "tea", None, {})])
    assert mark_duplicates(rows) is rows


def _cancelled(quantities):
    """Return the positions of the purchases that are returned in full, by a stack of purchases."""
    left, stack = list(quantities), []
    for position, quantity in enumerate(quantities):
        if quantity > 0:
            stack.append(position)
        while quantity < 0 and stack:
            taken = min(-quantity, left[stack[-1]])
            left[stack[-1]] -= taken
            quantity += taken
            if left[stack[-1]] == 0:
                stack.pop()
    return {position for position, quantity in enumerate(quantities) if quantity > 0 and left[position] == 0}


EXAMPLE = [2, 1, -2, 3, -1, -9]


def _sequences():
    roll = random.Random(3)
    drawn = [[roll.choice([-3, -2, -1, 1, 1, 2, 3]) for _ in range(roll.randint(2, 12))] for _ in range(60)]
    return {
        "docstring": EXAMPLE,
        "docstring, 5 days": EXAMPLE[:5],
        **{f"drawn {i}": row for i, row in enumerate(drawn)},
    }


@pytest.fixture(scope="module")
def returned(spark):
    """Return the reason of each event. Each sequence is a user, and its events are one day apart."""
    rows = [
        (user, "tea", day, {"quantity": float(n)})
        for user, sequence in _sequences().items()
        for day, n in enumerate(sequence, 1)
    ]
    reasons = defaultdict(dict)
    for row in mark_returns(_rows(spark, rows).repartition(3)).collect():
        reasons[row["user_id"]][(row["event_ts"] - moment(0).replace(tzinfo=None)).days - 1] = row["reason"]
    return reasons


def test_the_example_in_the_docstring():
    assert _cancelled(EXAMPLE) == {0, 1, 3}
    assert _cancelled(EXAMPLE[:5]) == {1}


@pytest.mark.parametrize("user", _sequences())
def test_returns_take_back_the_latest_purchases(returned, user):
    sequence = _sequences()[user]
    expected = {
        day: "return" if n < 0 else "cancelled_by_return" if day in _cancelled(sequence) else None
        for day, n in enumerate(sequence)
    }
    assert returned[user] == expected


def test_returns_affect_only_the_same_user_item_and_event_type(spark):
    rows = [
        ("ann", "tea", 1, {"quantity": 1.0, "price": 1.0}),
        (
            "ann",
            "tea",
            1,
            {"quantity": -1.0, "price": 2.0},
        ),  # a return counts as later than a purchase at the same time
        ("ann", "ale", 1, {"quantity": 1.0}),
        ("bob", "tea", 1, {"quantity": 1.0}),
        ("ann", "tea", 1, {"quantity": 1.0, "event_type": "cart"}),
        ("ann", "tea", 1, {"price": 3.0}),
        ("ann", "tea", 1, {"quantity": 1.0, "price": 4.0, "reason": "duplicate", "detail": "as it was"}),
        ("ann", "tea", 2, {"quantity": 1.0, "price": 5.0}),
        # in floating point 0.1 + 0.2 - 0.3 is not 0
        ("eve", "tea", 1, {"quantity": 0.1}),
        ("eve", "tea", 2, {"quantity": 0.2}),
        ("eve", "tea", 3, {"quantity": -0.3}),
        # without times all purchases come before all returns
        ("kim", "tea", None, {"quantity": -1.0}),
        ("kim", "tea", None, {"quantity": 1.0}),
    ]
    out = mark_returns(_rows(spark, rows)).collect()
    assert len(out) == len(rows)
    changed = [(row["user_id"], row["price"], row["reason"]) for row in out if row["reason"]]
    details = {row["price"]: row["detail"] for row in out if row["user_id"] == "ann"}
    assert (details[1.0], details[2.0], details[4.0], details[5.0]) == (
        "quantity=1.0",
        "quantity=-1.0",
        "as it was",
        None,
    )
    assert sorted(changed, key=str) == [
        ("ann", 1.0, "cancelled_by_return"),
        ("ann", 2.0, "return"),
        ("ann", 4.0, "duplicate"),
        ("eve", None, "cancelled_by_return"),
        ("eve", None, "cancelled_by_return"),
        ("eve", None, "return"),
        ("kim", None, "cancelled_by_return"),
        ("kim", None, "return"),
    ]


def test_users_above_a_limit_are_bots(spark):
    rows = [("busy", str(i), 1, {}) for i in range(4)] + [("steady", str(i), i, {}) for i in range(5)]
    rows += [("calm", str(i), 1, {}) for i in range(3)] + [("calm", "x", 1, {"reason": "too_old"})]
    rows += [("timeless", str(i), None, {}) for i in range(4)]
    frame = _rows(spark, rows)
    events = frame.groupBy("user_id").agg(F.count("*").alias("n"))
    details = {row["user_id"]: row["detail"] for row in bot_users(frame, events, max_per_day=3, max_total=4).collect()}
    assert details == {"busy": "4 events on 2026-01-02", "steady": "5 events in all"}
    assert [row["user_id"] for row in bot_users(frame, events, max_per_day=None, max_total=4).collect()] == ["steady"]
    # calm exceeds the limit only with an invalid row, and the events of timeless have no day
    assert bot_users(frame, events, max_per_day=3, max_total=None).collect() == [("busy", "4 events on 2026-01-02")]
    # steady has one event a day
    assert bot_users(frame, events, max_per_day=4, max_total=None) is None
    assert bot_users(frame, events, max_per_day=None, max_total=None) is None
