"""Tests that cold users and items are held out entirely, with every method, and are chosen by seed and id alone."""

import pytest

from factories import finish_stage, make_context, moment
from recsys_spark.errors import ContractViolation
from recsys_spark.stages.split import cold, leakage, stage
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import manifest, tables

EVENT_DDL = contracts.load("interactions").spark_ddl("user_idx", "item_idx", "event_ts", "weight")
FOLD_DDL = contracts.load("folds").spark_ddl("user_idx", "item_idx", "event_ts", "weight", "fold")
METHODS = {
    "last_n": {"min_train": 2},
    "temporal": {"valid_days": 3, "test_days": 3},
    "random": {"valid_share": 0.2, "test_share": 0.2, "min_train": 2},
}
SHARES = {"cold_user_share": 0.2, "cold_item_share": 0.1, "seed": 3}
USERS, ITEMS = 40, 30
# each pair has two events; the second, on day 13, is a repeat of most warm pairs
EVENTS = [
    (user, 1 + (7 * user + 3 * at) % ITEMS, day, 0.5)
    for user in range(USERS)
    for at in range(8)
    for day in (at + user % 5, 13)
]


def _hold_out(spark, events=EVENTS, partitions=2, **shares):
    rows = [(user, item, moment(day), weight) for user, item, day, weight in events]
    interactions = spark.createDataFrame(rows, EVENT_DDL).repartition(partitions, "item_idx")
    warm, pairs = cold.hold_out(interactions, **{"user_share": 0.2, "item_share": 0.1, "seed": 3, **shares})
    cold_pairs = {(r.user_idx, r.item_idx): (r.fold, r.weight, r.event_ts) for r in pairs.collect()}
    return sorted((r.user_idx, r.item_idx) for r in warm.collect()), cold_pairs


def _ids(pairs, fold, position):
    return {pair[position] for pair, (pair_fold, _, _) in pairs.items() if pair_fold == fold}


def test_all_pairs_of_cold_users_and_items_are_held_out(spark):
    warm, pairs = _hold_out(spark)
    users, items = _ids(pairs, "cold_user", 0), _ids(pairs, "cold_item", 1)
    assert users and items
    assert sorted(pairs) == sorted({(u, i) for u, i, _, _ in EVENTS if u in users or i in items})
    assert warm == sorted((u, i) for u, i, _, _ in EVENTS if u not in users and i not in items)
    # a pair of a cold user and a cold item belongs to cold_user
    both = {pair for pair in pairs if pair[0] in users and pair[1] in items}
    assert both and {pairs[pair][0] for pair in both} == {"cold_user"}
    first = {}
    for user, item, day, _ in EVENTS:
        first[user, item] = min(day, first.get((user, item), day))
    for pair, (_, weight, at) in pairs.items():
        assert (weight, at) == (2 * 0.5, moment(first[pair]).replace(tzinfo=None))


def test_the_choice_depends_only_on_seed_and_id(spark):
    warm, pairs = _hold_out(spark)
    assert _hold_out(spark, partitions=5) == (warm, pairs)
    assert _hold_out(spark, seed=4)[1] != pairs
    half = [event for event in EVENTS if event[1] > ITEMS // 2 and event[0] % 2]
    assert _hold_out(spark, half)[1] == {p: row for p, row in pairs.items() if p[1] > ITEMS // 2 and p[0] % 2}


@pytest.mark.parametrize(("name", "key"), [("user_share", "cold_user"), ("item_share", "cold_item")])
def test_the_share_of_users_or_items_is_held_out(spark, name, key):
    ids = [(n, n + 1, 1, 1.0) for n in range(4000)]
    no_shares = {"user_share": 0.0, "item_share": 0.0}
    warm, pairs = _hold_out(spark, ids, **{**no_shares, name: 0.1})
    assert len(warm) + len(pairs) == 4000
    assert {fold for fold, _, _ in pairs.values()} == {key}
    # binomial: 400 of 4,000, within 4 standard deviations
    assert abs(len(pairs) - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5
    assert _hold_out(spark, ids, **no_shares)[1] == {}


def test_users_and_items_are_chosen_independently(spark):
    """User n and item n have the same number, but not the same hash."""
    _, pairs = _hold_out(spark, [(n, n, 1, 1.0) for n in range(1, 4000)], user_share=0.1, item_share=0.1)
    items = len(_ids(pairs, "cold_item", 1))
    assert abs(items - 3999 * 0.9 * 0.1) < 4 * (4000 * 0.09 * 0.91) ** 0.5


@pytest.fixture
def run(tmp_path, spark):
    def run(**split):
        context = make_context(tmp_path, spark, split=split)
        rows = [
            {"user_idx": u, "item_idx": i, "event_ts": moment(day), "event_type": "view", "weight": w}
            for u, i, day, w in EVENTS
        ]
        finish_stage(context, "clean", None, {"interactions": ("interactions", rows)})
        for pass_name in stage.PASSES:
            stage.run(context, pass_name)
        return context

    return run


def _folds(context, pass_name):
    return tables.read_arrow(context.layout.table("split", pass_name, "folds"), "folds").to_pylist()


@pytest.mark.parametrize("method", METHODS)
def test_train_valid_and_test_have_no_cold_users_or_items(run, method):
    context = run(method=method, **METHODS[method], **SHARES)
    rows = _folds(context, "backtest")
    assert sorted((r["user_idx"], r["item_idx"]) for r in rows) == sorted({(u, i) for u, i, _, _ in EVENTS})
    users = {r["user_idx"] for r in rows if r["fold"] == "cold_user"}
    items = {r["item_idx"] for r in rows if r["fold"] == "cold_item"}
    warm = [r for r in rows if r["fold"] in ("train", "valid", "test")]
    assert users and items and {r["fold"] for r in warm} == {"train", "valid", "test"}
    assert not users & {r["user_idx"] for r in warm}
    assert not items & {r["item_idx"] for r in warm}
    counts = manifest.require(context.layout, "split", "backtest").counts
    for fold in ("cold_user", "cold_item"):
        users_of_rows = [r["user_idx"] for r in rows if r["fold"] == fold]
        assert (counts[fold], counts[f"users_with_{fold}"]) == (len(users_of_rows), len(set(users_of_rows)))
    assert {r["fold"] for r in _folds(context, "release")} == {"train"}


def test_valid_and_test_are_taken_from_the_warm_items(run):
    """If the last items of a user are cold, the items before them are in valid and test."""
    rows = _folds(run(method="last_n", **METHODS["last_n"], **SHARES), "backtest")
    cold_users = {r["user_idx"] for r in rows if r["fold"] == "cold_user"}
    for user in set(range(USERS)) - cold_users:
        folds = [r["fold"] for r in rows if r["user_idx"] == user]
        assert (folds.count("valid"), folds.count("test")) == (1, 1)


def test_without_shares_the_manifest_has_no_cold_counts_or_settings(run):
    context = run(method="last_n", min_train=2)
    split = manifest.require(context.layout, "split", "backtest")
    assert not [name for name in (*split.counts, *split.settings) if "cold" in name or name == "seed"]
    assert {r["fold"] for r in _folds(context, "backtest")} == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((1, 8, "train"), "user_idx 1 has 1 pairs in cold_user and 1 in other folds"),
        ((1, 7, "cold_item"), "user_idx 1 has 1 pairs in cold_user and 1 in other folds"),
        ((2, 9, "test"), "item_idx 9 has 1 pairs in cold_item and 1 in other folds"),
    ],
)
def test_a_cold_user_or_item_in_another_fold_is_an_error(spark, more, message):
    valid = [(1, 9, "cold_user"), (3, 9, "cold_item"), (2, 8, "train")]

    def folds(rows):
        return spark.createDataFrame([(u, i, moment(1), 1.0, fold) for u, i, fold in rows], FOLD_DDL)

    leakage.check_cold_folds(folds(valid))
    with pytest.raises(ContractViolation, match=message):
        leakage.check_cold_folds(folds([*valid, more]))
