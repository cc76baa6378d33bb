"""Tests the stage on disk: both passes, skipping and errors."""

import pytest

from factories import finish_stage, make_context, moment
from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.stages.split import stage
from recsys_spark.storage import manifest, tables

ROWS = [
    {
        "user_idx": user,
        "item_idx": item,
        "event_ts": moment(10 * user + item),
        "event_type": "view",
        "weight": 1.0,
    }
    for user in range(3)
    for item in range(1, 6)
]


@pytest.fixture
def cleaned(tmp_path, spark):
    """Return a function that writes the clean stage and returns the context."""

    def write(rows=ROWS, **split):
        context = make_context(tmp_path, spark, split=split)
        finish_stage(context, "clean", None, {"interactions": ("interactions", rows)})
        return context

    return write


def _folds(context, pass_name):
    table = tables.read_arrow(context.layout.table("split", pass_name, "folds"), "folds").to_pylist()
    return {(row["user_idx"], row["item_idx"]): row["fold"] for row in table}


def test_both_passes(cleaned):
    context = cleaned(method="last_n", min_train=2)
    for pass_name in stage.PASSES:
        stage.run(context, pass_name)
    by_item = {1: "train", 2: "train", 3: "train", 4: "valid", 5: "test"}
    assert _folds(context, "backtest") == {(user, item): by_item[item] for user in range(3) for item in range(1, 6)}
    assert _folds(context, "release") == {(user, item): "train" for user in range(3) for item in range(1, 6)}
    counts = manifest.require(context.layout, "split", "backtest").counts
    assert {name: counts[name] for name in ("train", "valid", "test", "repeats", "users_with_test")} == {
        "train": 9,
        "valid": 3,
        "test": 3,
        "repeats": 0,
        "users_with_test": 3,
    }
    first = manifest.require(context.layout, "split", "backtest").output_id
    context.__dict__.pop("spark")
    stage.run(context, "backtest")  # skipped, so it starts no session
    assert manifest.require(context.layout, "split", "backtest").output_id == first
    assert not context._session


def test_the_release_pass_ignores_the_method(cleaned):
    context = cleaned(method="last_n", min_train=2)
    stage.run(context, "release")
    first = manifest.require(context.layout, "split", "release").output_id
    context = cleaned(method="random")
    assert manifest.require(context.layout, "clean").output_id  # the clean stage was written again, so its id changed …
    stage.run(context, "release")
    assert manifest.require(context.layout, "split", "release").output_id != first  # … and split ran again
    assert manifest.require(context.layout, "split", "release").settings == {}


def test_the_manifest_has_the_boundaries_of_a_temporal_split(cleaned):
    context = cleaned(method="temporal", valid_days=3, test_days=2)
    stage.run(context, "backtest")
    counts = manifest.require(context.layout, "split", "backtest").counts
    # the newest event is on day 25 (26 January): test is days 24 and 25, valid days 21 to 23
    assert (counts["valid_begins"][:10], counts["test_begins"][:10]) == ("2026-01-22", "2026-01-25")
    assert (counts["train"], counts["valid"], counts["test"]) == (10, 3, 2)


def test_the_random_split_needs_no_times(cleaned):
    rows = [{**row, "event_ts": None} for row in ROWS]
    context = cleaned(rows, method="random", valid_share=0.2, test_share=0.2, min_train=3)
    stage.run(context, "backtest")
    assert sorted(_folds(context, "backtest").values()) == ["test"] * 3 + ["train"] * 9 + ["valid"] * 3


def test_empty_folds_are_an_error(cleaned):
    context = cleaned(method="last_n", min_train=4)
    message = (
        r"no interactions are left for valid and test with "
        r"split\.method=last_n, split\.valid_n=1, split\.test_n=1, split\.min_train=4"
    )
    with pytest.raises(ContractViolation, match=message):
        stage.run(context, "backtest")
    assert manifest.read(context.layout.stage("split", "backtest")) is None


def test_a_missing_clean_stage_is_an_error(tmp_path, spark):
    with pytest.raises(StageMissing, match="Run jobs/clean.py"):
        stage.run(make_context(tmp_path, spark), "backtest")
