"""Compares every table of the features stage, in both passes, with plain Python over the same folds."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factories import finish_stage, make_context, moment, put_table
from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.spark.tie_order import tie_order
from recsys_spark.stages.features import shuffling, stage
from recsys_spark.stages.features.shuffling import write_examples
from recsys_spark.storage import manifest, tables

LENGTH, MAX_EXAMPLES, GROUPS = 4, 6, 4
SETTINGS = {
    "history_length": LENGTH,
    "examples": "targets",
    "max_examples_per_user": MAX_EXAMPLES,
    "row_groups": GROUPS,
    "strictly_before": False,
    "seed": 7,
}
"""Settings of `write_examples`."""
RNG = np.random.default_rng(5)
# number of items of each user; times repeat, so there are ties
LENGTHS = [0, 1, 2, 5, 9, 12, 7, 3, 8]


def make_folds():
    rows = []
    for user, n in enumerate(LENGTHS):
        times = np.sort(RNG.integers(0, max(n // 2, 1), n))
        for at, (item, time) in enumerate(zip(RNG.permutation(np.arange(1, 20))[:n].tolist(), times.tolist())):
            fold = "train" if n < 5 or at < n - 2 else "valid" if at == n - 2 else "test"
            rows.append(
                {
                    "user_idx": user,
                    "item_idx": item,
                    "event_ts": moment(time),
                    "weight": 1.0 + at,
                    "fold": fold,
                }
            )
    return rows


FOLDS = make_folds()
USERS = [
    {"user_idx": u, "user_id": f"u{u}", "segment": None if u == 2 else "s", "attributes": []}
    for u in range(len(LENGTHS))
]
ITEMS = [
    {
        "item_idx": i,
        "item_id": f"i{i}",
        "categories": ["b"] * (i % 2 == 0) + ["a", "a"] * (i % 3 == 0) + [f"rare{i}"],
        "withdrawn": False,
    }
    for i in range(1, 21)
]


def make_inputs(root, spark, folds=FOLDS, split=None, **features):
    settings = {"history_length": LENGTH, "max_examples_per_user": MAX_EXAMPLES, "row_groups": GROUPS, **features}
    context = make_context(root, spark, features=settings, split=split or {})
    finish_stage(context, "clean", None, {"users": ("users", USERS), "items": ("items", ITEMS)}, n_items=21)
    finish_stage(context, "split", BACKTEST, {"folds": ("folds", folds)})
    finish_stage(context, "split", RELEASE, {"folds": ("folds", [{**row, "fold": "train"} for row in folds])})
    return context


@pytest.fixture(scope="module")
def context(spark, tmp_path_factory):
    context = make_inputs(tmp_path_factory.mktemp("features"), spark)
    stage.run(context, BACKTEST)
    stage.run(context, RELEASE)
    return context


def table(context, pass_name, name):
    return tables.read_arrow(context.layout.table("features", pass_name, name), name).to_pylist()


def counts(context, pass_name):
    return manifest.require(context.layout, "features", pass_name).counts


def history_of(user, folds):
    rows = [row for row in FOLDS if row["user_idx"] == user and row["fold"] in folds]
    return sorted(rows, key=lambda row: (row["event_ts"], tie_order(row["user_idx"], row["item_idx"])))


HISTORIES = [
    (BACKTEST, "valid", ["train"]),
    (BACKTEST, "test", ["train", "valid"]),
    (RELEASE, "release", ["train", "valid", "test"]),
]


@pytest.mark.parametrize(("pass_name", "as_of", "folds"), HISTORIES)
def test_the_histories_have_the_items_of_the_earlier_folds(context, pass_name, as_of, folds):
    histories = {row["user_idx"]: row for row in table(context, pass_name, "histories") if row["as_of"] == as_of}
    assert sorted(histories) == list(range(len(LENGTHS)))
    for user, row in histories.items():
        expected = history_of(user, folds)
        assert row["item_idx"] == [e["item_idx"] for e in expected]
        assert row["event_ts"] == [int(e["event_ts"].timestamp()) for e in expected]
        assert row["weight"] == [e["weight"] for e in expected]
        assert row["segment"] == USERS[user]["segment"]


def test_each_pass_has_its_own_values_of_as_of(context):
    assert {row["as_of"] for row in table(context, BACKTEST, "histories")} == {"valid", "test"}
    assert {row["as_of"] for row in table(context, RELEASE, "histories")} == {"release"}
    assert not context.layout.table("features", RELEASE, "positives").exists()


@pytest.mark.parametrize("fold", ["valid", "test"])
def test_positives_are_the_held_out_items(context, fold):
    positives = {r["user_idx"]: r["item_idx"] for r in table(context, BACKTEST, "positives") if r["as_of"] == fold}
    held_out = [row for row in FOLDS if row["fold"] == fold]
    assert positives == {row["user_idx"]: [row["item_idx"]] for row in held_out}
    assert len(held_out) == sum(n >= 5 for n in LENGTHS)


def expected_examples(folds):
    """Return (target, weight, history) of the newest targets of each user."""
    examples = []
    for user in range(len(LENGTHS)):
        rows = history_of(user, folds)
        for at in range(max(1, len(rows) - MAX_EXAMPLES), len(rows)):
            items = [row["item_idx"] for row in rows[max(0, at - LENGTH) : at]]
            examples.append((rows[at]["item_idx"], rows[at]["weight"], (*[0] * (LENGTH - len(items)), *items)))
    return examples


def with_windows(rows):
    """Return the rows of the table `examples` with their windows as lists."""
    types = {"history": "<i4", "recency": "u1"}
    return [
        {**row, **{name: np.frombuffer(row[name], dtype).tolist() for name, dtype in types.items()}} for row in rows
    ]


@pytest.mark.parametrize(("pass_name", "folds"), [(BACKTEST, ["train"]), (RELEASE, ["train", "valid", "test"])])
def test_the_targets_are_the_newest_items_of_each_user(context, pass_name, folds):
    expected = expected_examples(folds)
    rows = with_windows(table(context, pass_name, "examples"))
    size = -(-len(expected) // GROUPS)
    rows.sort(key=lambda row: row["example"])
    assert [row["example"] for row in rows] == list(range(size * GROUPS))
    examples = [(row["item_idx"], row["weight"], tuple(row["history"])) for row in rows]
    assert Counter(examples[: len(expected)]) == Counter(expected)
    assert examples[len(expected) :] == examples[: size * GROUPS - len(expected)]  # the first ones are repeated
    assert counts(context, pass_name)["examples"] == size * GROUPS
    assert counts(context, pass_name)["padded_examples"] == size * GROUPS - len(expected)
    assert all((row["recency"][i] == 0) == (row["history"][i] == 0) for row in rows for i in range(LENGTH))


def row_groups(folder):
    metadata = [pq.ParquetFile(path).metadata for path in sorted(folder.glob("*.parquet"))]
    return [[m.row_group(i).num_rows for i in range(m.num_row_groups)] for m in metadata if m.num_row_groups]


def test_each_file_has_one_row_group_of_the_same_size(context):
    size = counts(context, BACKTEST)["examples"] // GROUPS
    assert row_groups(context.layout.table("features", BACKTEST, "examples")) == [[size]] * GROUPS


def test_the_order_is_random_but_depends_only_on_the_seed(context, spark, tmp_path):
    folder = context.layout.table("features", BACKTEST, "examples")
    first = tables.read_arrow(folder, "examples").sort_by("example")
    targets = [target for target, _, _ in expected_examples(["train"])]
    assert first.column("item_idx").to_pylist()[: len(targets)] != targets
    source = tables.read(spark, context.layout.table("features", BACKTEST, "histories"), "histories")
    histories = source.where("as_of = 'valid'").repartition(5, "item_idx")
    write_examples(histories, tmp_path / "again", **SETTINGS)
    assert tables.read_arrow(tmp_path / "again", "examples").sort_by("example").equals(first)
    write_examples(histories, tmp_path / "other", **{**SETTINGS, "seed": 8})
    assert not tables.read_arrow(tmp_path / "other", "examples").sort_by("example").equals(first)


def test_strictly_before_gives_no_example_for_the_first_basket(spark, tmp_path):
    baskets = {1: [5, 5, 5, 5], 2: [1, 1, 8, 8, 9], 3: [4], 4: []}
    rows = [
        {"user_idx": user, "item_idx": [10 * user + i for i in range(len(times))], "event_ts": times,
         "weight": [1.0] * len(times), "segment": None, "as_of": "release"}
        for user, times in baskets.items()
    ]  # fmt: skip
    put_table(tmp_path / "histories", "histories", rows)
    histories = tables.read(spark, tmp_path / "histories", "histories")
    settings = {**SETTINGS, "max_examples_per_user": 9, "row_groups": 1, "strictly_before": True}
    counts = write_examples(histories, tmp_path / "examples", **settings)
    assert counts["examples"] == 3
    rows = with_windows(tables.read_arrow(tmp_path / "examples", "examples").to_pylist())
    windows = {row["item_idx"]: [item for item in row["history"] if item] for row in rows}
    assert windows == {22: [20, 21], 23: [20, 21], 24: [20, 21, 22, 23]}


def test_examples_are_repeated_to_fill_all_row_groups(context, spark, tmp_path):
    source = tables.read(spark, context.layout.table("features", BACKTEST, "histories"), "histories")
    two = source.where("as_of = 'valid' and user_idx = 7")  # three items give two examples
    result = write_examples(two, tmp_path / "examples", **{**SETTINGS, "row_groups": 5})
    assert result == {"examples": 5, "padded_examples": 3, "row_groups": 5, "users_with_history": 1}
    items = tables.read_arrow(tmp_path / "examples", "examples").sort_by("example").column("item_idx").to_pylist()
    assert items == [items[0], items[1]] * 2 + [items[0]]
    assert items[0] != items[1]


def test_large_row_groups_are_divided(context, spark, tmp_path, monkeypatch):
    """The groups are divided until they are small enough. They stay equal in size, and the order stays the same."""
    histories = tables.read(spark, context.layout.table("features", RELEASE, "histories"), "histories")
    whole = write_examples(histories, tmp_path / "whole", **SETTINGS)
    total = whole["examples"] - whole["padded_examples"]
    monkeypatch.setattr(shuffling, "MAX_GROUP_BYTES", 3 * (24 + 5 * LENGTH))
    divided = write_examples(histories, tmp_path / "divided", **SETTINGS)
    assert divided["row_groups"] == GROUPS * -(-total // (3 * GROUPS))
    size = divided["examples"] // divided["row_groups"]
    assert row_groups(tmp_path / "divided") == [[size]] * divided["row_groups"]
    whole_rows, divided_rows = (
        tables.read_arrow(tmp_path / name, "examples").sort_by("example").slice(0, total)
        for name in ("whole", "divided")
    )
    assert divided_rows == whole_rows


@pytest.mark.parametrize(
    ("total", "length", "groups"),
    [(0, 50, 1), (1_900_000, 50, 1), (2_000_000, 200, 4), (28_290_840, 50, 15)],
)
def test_row_groups_stay_within_the_limit(total, length, groups):
    assert shuffling.groups_per_shard(total, shards=8, length=length) == groups
    assert total / (8 * groups) * (24 + 5 * length) <= 2**26


@pytest.mark.parametrize("timed", [True, False])
def test_with_examples_per_user_the_target_is_the_newest_item(spark, tmp_path, timed):
    """Each user with at least two items gives one row, even if all items have the same time and the split is temporal.

    Without times the order is random.
    """
    folds = [row if timed else {**row, "event_ts": None} for row in FOLDS]
    context = make_inputs(tmp_path, spark, folds, split={"method": "temporal" if timed else "random"}, examples="users")
    stage.run(context, RELEASE)
    rows = with_windows(table(context, RELEASE, "examples"))
    histories = {user: history_of(user, ["train", "valid", "test"]) for user, n in enumerate(LENGTHS) if n > 1}
    assert counts(context, RELEASE)["examples"] == len(rows) == -(-len(histories) // GROUPS) * GROUPS
    size = len(rows) // GROUPS
    assert row_groups(context.layout.table("features", RELEASE, "examples")) == [[size]] * GROUPS
    sequences = {(*[item for item in row["history"] if item], row["item_idx"]) for row in rows}
    newest = {tuple(row["item_idx"] for row in history[-LENGTH - 1 :]) for history in histories.values()}
    if timed:
        assert sequences == newest
        return
    assert len(sequences) == len(histories)
    assert sequences != newest
    items = [{row["item_idx"] for row in history} for history in histories.values()]
    for sequence in map(set, sequences):
        assert any(sequence <= of_user and len(sequence) == min(len(of_user), LENGTH + 1) for of_user in items)


@pytest.mark.parametrize(("pass_name", "folds"), [(BACKTEST, ["train"]), (RELEASE, ["train", "valid", "test"])])
def test_item_counts_are_numbers_of_training_pairs(context, pass_name, folds):
    item_counts = {row["item_idx"]: row["count"] for row in table(context, pass_name, "item_counts")}
    assert item_counts == Counter(row["item_idx"] for row in FOLDS if row["fold"] in folds)


def test_features_are_numbered_by_name_and_rare_ones_dropped(context):
    names = table(context, BACKTEST, "item_feature_names")
    assert sorted(names, key=lambda row: row["feature"]) == [
        {"feature": 0, "name": "category=a", "count": 20 // 3},
        {"feature": 1, "name": "category=b", "count": 20 // 2},
    ]
    features = {row["item_idx"]: row["features"] for row in table(context, BACKTEST, "item_features")}
    assert features == {i: [0] * (i % 3 == 0) + [1] * (i % 2 == 0) for i in range(1, 21) if i % 3 == 0 or i % 2 == 0}
    assert counts(context, BACKTEST)["features"] == 2
    assert counts(context, BACKTEST)["dropped_features"] == 20


def test_users_with_history_are_counted(context):
    assert counts(context, BACKTEST)["users_with_history"] == len(LENGTHS) - 1


def test_a_second_run_is_skipped_without_spark(context):
    before = manifest.require(context.layout, "features", BACKTEST)
    without_spark = make_context(
        context.layout.root,
        features={"history_length": LENGTH, "max_examples_per_user": MAX_EXAMPLES, "row_groups": GROUPS},
    )
    without_spark.__dict__["spark"] = None
    stage.run(without_spark, BACKTEST)
    assert manifest.require(context.layout, "features", BACKTEST) == before


def test_a_log_without_times(spark, tmp_path):
    """Times are 0, and a window holds other items of the user. Users with one item give no example."""
    folds = [{**row, "event_ts": None} for row in FOLDS]
    timeless = make_inputs(tmp_path / "timeless", spark, folds)
    stage.run(timeless, RELEASE)
    histories = {row["user_idx"]: row for row in table(timeless, RELEASE, "histories")}
    assert histories[5]["item_idx"] == sorted(histories[5]["item_idx"], key=lambda item: tie_order(5, item))
    assert set(histories[5]["event_ts"]) == {0}
    item_sets = [set(row["item_idx"]) for row in histories.values()]
    rows = table(timeless, RELEASE, "examples")
    for row in rows:
        window, target = {i for i in row["history"] if i}, row["item_idx"]
        assert target not in window
        assert any(window | {target} <= of_user for of_user in item_sets)
        assert set(row["recency"]) <= {0, 1}
    singles = [row for row in FOLDS if row["user_idx"] == 1]
    one_item = make_inputs(tmp_path / "one_item", spark, singles)
    stage.run(one_item, RELEASE)
    assert counts(one_item, RELEASE)["examples"] == 0


def test_a_missing_clean_stage_is_an_error(tmp_path):
    with pytest.raises(StageMissing, match=r"no finished clean stage .* Run jobs/clean\.py"):
        stage.run(make_context(tmp_path), BACKTEST)


def test_unequal_row_groups_are_an_error(tmp_path):
    for name, n in [("a", 3), ("b", 2)]:
        pq.write_table(pa.table({"x": range(n)}), tmp_path / f"{name}.parquet")
    with pytest.raises(ContractViolation, match=r"row groups of \[\[3\], \[2\]\] rows. Expected 2 files .* of 3 rows"):
        shuffling.check_row_groups(tmp_path, 2, 3)


def test_cold_users_and_items_are_only_positives(spark, tmp_path):
    """User 8 and item 19 are cold. Histories, counts and examples equal those of a log without them."""
    warm_rows = [row for row in FOLDS if row["item_idx"] != 19 and row["user_idx"] != 8]
    cold_rows = [{**row, "fold": "cold_user"} for row in FOLDS if row["user_idx"] == 8]
    cold_rows += [
        {"user_idx": user, "item_idx": 19, "event_ts": moment(0), "weight": 1.0, "fold": "cold_item"}
        for user in (0, 1, 6)
    ]
    rows = {"cold": warm_rows + cold_rows, "warm": warm_rows}
    with_cold, without = (make_inputs(tmp_path / name, spark, folds) for name, folds in rows.items())
    for context in (with_cold, without):
        stage.run(context, BACKTEST)
    for name in ("histories", "item_counts", "examples", "item_features"):
        assert sorted(map(str, table(with_cold, BACKTEST, name))) == sorted(map(str, table(without, BACKTEST, name)))
    assert counts(with_cold, BACKTEST) == counts(without, BACKTEST)
    assert {row["user_idx"] for row in table(with_cold, BACKTEST, "histories") if not row["item_idx"]} == {0, 8}
    added = [row for row in table(with_cold, BACKTEST, "positives") if row not in table(without, BACKTEST, "positives")]
    items = sorted(row["item_idx"] for row in FOLDS if row["user_idx"] == 8)
    assert sorted(map(str, added)) == sorted(map(str, [
        {"user_idx": 8, "item_idx": items, "as_of": "cold_user"},
        *({"user_idx": user, "item_idx": [19], "as_of": "cold_item"} for user in (0, 1, 6)),
    ]))  # fmt: skip
