"""Tests the whole stage on two nights of a small log that has every quarantine reason, and its errors."""

import json

import pytest

from factories import make_context
from recsys_spark.errors import AllQuarantined, ContractViolation, EmptyLog, InputMismatch, InputMissing
from recsys_spark.stages.clean import stage
from recsys_spark.stages.clean.quarantine import check_no_row_lost
from recsys_spark.storage import manifest
from recsys_spark.storage import tables as store
from recsys_spark.storage.layout import Layout

HEADER = "who,what,kind,stars,pieces,paid,when"
CLEAN = {
    "columns": {
        "user_id": "who",
        "item_id": "what",
        "event_type": "kind",
        "rating": "stars",
        "quantity": "pieces",
        "price": "paid",
        "event_ts": "when",
    },
    "rating_range": [1, 5],
    "quantity_range": [1, 9],
    "price_range": [0, 99],
    "item_columns": {"item_id": "id", "title": "name", "category": None},
    "user_columns": {"user_id": "id", "attributes": ["city"]},
    "segment_by": ["city"],
    "require_known_items": True,
    "max_events_per_user_day": 5,
    "k_core_users": 2,
    "k_core_items": 2,
}
VALID = [
    f"{user},{item},view,,,,2026-01-0{day}"
    for day, user in enumerate(("ann", "bob", "cid"), 1)
    for item in ("tea", "ale")
]
INVALID = {
    "malformed_row": ["eve,tea"],
    "missing_user": [",tea,view,,,,2026-01-01"],
    "missing_item": ["ann, ,view,,,,2026-01-01"],
    "unparsable_time": ["ann,tea,view,,,,soon"],
    "too_old": ["ann,tea,view,,,,1990-01-01"],
    "future_time": ["ann,tea,view,,,,2026-03-01"],
    "unknown_event_type": ["ann,tea,wink,,,,2026-01-01"],
    "unparsable_number": ["ann,tea,rating,x,,,2026-01-01"],
    "rating_out_of_range": ["ann,tea,rating,6,,,2026-01-01"],
    "quantity_out_of_range": ["ann,tea,purchase,,10,,2026-01-01"],
    "price_out_of_range": ["ann,tea,purchase,,1,100,2026-01-01"],
    "unknown_item": ["ann,gin,view,,,,2026-01-01"],
    "duplicate": VALID[:2],
    "cancelled_by_return": ["dot,tea,purchase,,2,1,2026-01-01"],
    "return": ["dot,tea,purchase,,-2,1,2026-01-02"],
    "bot_user": [f"bot,tea,view,,,,2026-01-01T{hour:02d}:00:00" for hour in range(6)],
    # jam has one user, and without jam fay has one item
    "below_k_core": ["fay,jam,view,,,,2026-01-01", "fay,tea,view,,,,2026-01-01"],
}


def _write(root, events=(), items=("tea", "ale", "jam", "new"), users=("ann,Ulm", "lee,"), name="events.csv"):
    (root / name).write_text("\n".join([HEADER, *events]) + "\n")
    (root / "items.csv").write_text("\n".join(["id,name", *[f"{item},The {item}" for item in items]]) + "\n")
    (root / "users.csv").write_text("\n".join(["id,city", *users]) + "\n")


def _context(root, spark, events="events.csv", **clean):
    paths = {"events": str(root / events), "items": str(root / "items.csv"), "users": str(root / "users.csv")}
    return make_context(root, spark, paths=paths, clean={**CLEAN, **clean})


def _table(context, name):
    return store.read_arrow(context.layout.clean_table(name), name).to_pylist()


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    _write(root, [*VALID, *[row for rows in INVALID.values() for row in rows]])
    context = _context(root, spark)
    stage.run(context)
    return context, manifest.require(context.layout, "clean").counts


def test_every_reason_occurs_and_no_row_is_lost(night):
    context, counts = night
    expected = {reason: len(rows) for reason, rows in INVALID.items()}
    assert counts["quarantined_by_reason"] == expected
    assert (counts["rows_in"], counts["interactions"], counts["quarantined"]) == (
        len(VALID) + sum(expected.values()),
        len(VALID),
        sum(expected.values()),
    )
    rows = _table(context, "quarantine")
    assert {row["source_file"] for row in rows} == {str(context.layout.root / "events.csv")}
    details = {row["reason"]: row["detail"] for row in rows}
    assert details["malformed_row"] == "line=eve,tea"
    assert details["future_time"] == "when=2026-03-01"
    assert details["unknown_item"] == "what=gin"
    assert details["bot_user"] == "6 events on 2026-01-01"
    assert {row["detail"] for row in rows if row["reason"] == "below_k_core"} == {"the user has fewer than 2 items"}
    assert json.loads(next(row["row"] for row in rows if row["reason"] == "bot_user"))["item_id"] == "tea"


def test_interactions_are_the_valid_rows(night):
    context, counts = night
    rows = _table(context, "interactions")
    ids = (
        {row["user_idx"]: row["user_id"] for row in _table(context, "users")},
        {row["item_idx"]: row["item_id"] for row in _table(context, "items")},
    )
    events = sorted(
        (ids[0][row["user_idx"]], ids[1][row["item_idx"]], row["event_ts"].date().isoformat()) for row in rows
    )
    assert events == sorted((user, item, when) for user, item, *_, when in (row.split(",") for row in VALID))
    assert {row["weight"] for row in rows} == {1.0}
    assert (counts["events_first"], counts["events_last"], counts["events_by_month"]) == (
        "2026-01-01",
        "2026-01-03",
        [["2026-01", 6]],
    )


def test_ids_are_numbered_in_sorted_order(night):
    context, counts = night
    users = {row["user_id"]: (row["user_idx"], row["segment"]) for row in _table(context, "users")}
    # all users with a valid event, and lee from the users file; the only row of eve is malformed
    assert users == {
        name: (n, "Ulm" if name == "ann" else None)
        for n, name in enumerate(["ann", "bob", "bot", "cid", "dot", "fay", "lee"])
    }
    assert {row["item_id"]: row["item_idx"] for row in _table(context, "items")} == {
        "ale": 1,
        "jam": 2,
        "new": 3,
        "tea": 4,
    }
    assert {
        name: counts[name]
        for name in ("users", "n_users", "new_users", "items", "n_items", "new_items", "orphan_items")
    } == {
        "users": 7,
        "n_users": 7,
        "new_users": 7,
        "items": 4,
        "n_items": 5,
        "new_items": 4,
        "orphan_items": 0,
    }


def test_missing_values_are_counted(night):
    _, counts = night
    # 2 rows have a rating, 4 a quantity, 3 a price; the malformed row has only its ids, and one row has no user
    events = {"user_id": 1, "item_id": 0, "event_ts": 1, "event_type": 1}
    events |= {
        "rating": counts["rows_in"] - 2,
        "quantity": counts["rows_in"] - 4,
        "price": counts["rows_in"] - 3,
    }
    # only one of the 7 users, ann, has a city
    assert counts["missing"] == {
        **{f"events.{name}": n for name, n in events.items()},
        "items.title": 0,
        "users.city": 7 - 1,
    }
    assert counts["content_faults"] == {"items": {}, "users": {}}


def test_the_second_night_keeps_the_ids_of_the_first(night, spark, tmp_path):
    context, _ = night
    before = {row["user_id"]: row["user_idx"] for row in _table(context, "users")}
    root = context.layout.root
    _write(
        root,
        [row.replace("bob", "abe") for row in VALID],
        items=("tea", "ale", "aaa"),
        users=("lee,Ulm",),
        name="night2.csv",
    )
    later = _context(root, spark, events="night2.csv")
    later.layout = Layout(root, "night2")
    stage.run(later)
    users = {row["user_id"]: row["user_idx"] for row in _table(later, "users")}
    assert users == {"abe": 7, **{name: before[name] for name in ("ann", "cid", "lee")}}
    assert {row["item_id"]: row["item_idx"] for row in _table(later, "items")} == {
        "tea": 4,
        "ale": 1,
        "aaa": 5,
    }
    counts = manifest.require(later.layout, "clean").counts
    assert (counts["new_users"], counts["n_users"], counts["new_items"], counts["n_items"]) == (1, 8, 1, 6)


def test_a_repeated_night_is_skipped_and_a_forced_one_writes_the_same_tables(night, spark):
    context, _ = night
    first = manifest.require(context.layout, "clean")
    tables = {
        name: sorted(map(str, _table(context, name))) for name in ("interactions", "quarantine", "users", "items")
    }
    # the same content with a new modification time
    _write(context.layout.root, [*VALID, *[row for rows in INVALID.values() for row in rows]])
    context.force = True
    stage.run(context)
    context.force = False
    again = manifest.require(context.layout, "clean")
    assert again.output_id != first.output_id
    assert {name: sorted(map(str, _table(context, name))) for name in tables} == tables
    assert (again.counts["new_users"], again.counts["n_users"]) == (0, 8)
    session = context.__dict__.pop("spark")
    stage.run(context)
    assert not context._session, "a skipped stage must not start a session"
    context.__dict__["spark"] = session
    assert manifest.require(context.layout, "clean").output_id == again.output_id


def test_a_lost_row_is_an_error():
    check_no_row_lost(10, 7, {"duplicate": 2, "return": 1})
    with pytest.raises(
        ContractViolation, match=r"10 rows were read, but 7 interactions and 2 quarantined rows were written \(-1\)"
    ):
        check_no_row_lost(10, 7, {"duplicate": 2})


def test_an_empty_log_is_an_error(spark, tmp_path):
    _write(tmp_path)
    with pytest.raises(EmptyLog, match=r"paths\.events: .*events\.csv has no rows \(1 files\)"):
        stage.run(_context(tmp_path, spark))


def test_a_log_without_valid_rows_is_an_error(spark, tmp_path):
    _write(tmp_path, INVALID["future_time"] * 2 + INVALID["unparsable_time"])
    with pytest.raises(AllQuarantined) as error:
        stage.run(_context(tmp_path, spark))
    message = "all 3 rows are quarantined (future_time 2, unparsable_time 1). Example of future_time: when=2026-03-01. "
    assert message in str(error.value)
    assert not (tmp_path / "index").exists()


def test_a_log_with_an_empty_k_core_is_an_error(spark, tmp_path):
    _write(tmp_path, VALID)
    with pytest.raises(AllQuarantined, match=r"all 6 rows are quarantined \(below_k_core 6\)"):
        stage.run(_context(tmp_path, spark, k_core_users=3))
    assert manifest.read(tmp_path / "runs" / "2026-03-01" / "clean") is None


def test_a_key_that_no_json_line_has_is_an_error(spark, tmp_path):
    _write(tmp_path)
    (tmp_path / "events.jsonl").write_text('{"who": "ann", "what": "tea", "when": "2026-01-01", "star": 1}\n')
    context = make_context(
        tmp_path,
        spark,
        paths={"events": str(tmp_path / "events.jsonl")},
        clean={"columns": {"user_id": "who", "item_id": "what", "event_ts": "when", "rating": "stars"}},
    )
    with pytest.raises(
        InputMismatch,
        match=r'events.jsonl: column "stars" not found. Found: .* nearest name is "star". Set clean.columns.rating',
    ):
        stage.run(context)


def test_a_missing_content_file_is_found_before_spark_starts(tmp_path):
    _write(tmp_path, VALID)
    (tmp_path / "users.csv").unlink()
    context = _context(tmp_path, None)
    with pytest.raises(InputMissing, match=r"paths\.users: .*users\.csv does not exist"):
        stage.run(context)
    assert not context._session
