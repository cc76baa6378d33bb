"""Each method against plain Python over the same log, and the same folds whatever the partitions."""

import random as dice
from collections import Counter
from datetime import date, datetime, timezone

import pytest

from factories import moment
from recsys_spark.stages.split import last_n, leakage, random, temporal
from recsys_spark.storage import contract as contracts

DDL = contracts.load("interactions").spark_ddl("user_idx", "item_idx", "event_ts", "weight")
VALID_BEGINS, TEST_BEGINS = 12, 16


def _log():
    """150 events of 12 users on 14 items and 20 days: ties in time, repeats, and users with one item only."""
    roll = dice.Random(5)
    events = {(roll.randrange(12), roll.randint(1, 14), roll.randrange(20)) for _ in range(150)}
    return [*sorted(events), (90, 1, 3), (91, 1, 3), (91, 2, 3), (92, 3, 19)]


EVENTS = _log()
HALF = 0.5  # every event weighs a half, so that weights are sums, not counts


@pytest.fixture(scope="module")
def interactions(spark):
    rows = [(user, item, moment(day), HALF) for user, item, day in EVENTS]
    return spark.createDataFrame(rows, DDL).persist()


def _collected(folds):
    rows = folds.collect()
    assert len({(row["user_idx"], row["item_idx"]) for row in rows}) == len(rows)
    return {(row["user_idx"], row["item_idx"]): (row["fold"], row["weight"], row["event_ts"]) for row in rows}


def _expected(oracle):
    first = {}
    for user, item, day in EVENTS:
        first[user, item] = min(day, first.get((user, item), day))
    return {
        pair: (fold, known * HALF, moment(first[pair]).replace(tzinfo=None)) for pair, (fold, known) in oracle.items()
    }


METHODS = {
    "last_n": lambda df: last_n.split(df, valid_n=2, test_n=1, min_train=3),
    "temporal": lambda df: temporal.split(df, valid_begins=moment(VALID_BEGINS), test_begins=moment(TEST_BEGINS)),
    "random": lambda df: random.split(df, valid_share=0.2, test_share=0.3, min_train=2, seed=7),
}


@pytest.fixture(scope="module")
def folds(interactions):
    return {name: _collected(method(interactions.repartition(3, "item_idx"))) for name, method in METHODS.items()}


def test_last_n_equals_plain_python(folds):
    oracle, _ = last_n.example(EVENTS, valid_n=2, test_n=1, min_train=3)
    assert folds["last_n"] == _expected(oracle)
    assert {fold for fold, _ in oracle.values()} == {"train", "valid", "test"}


def test_temporal_equals_plain_python(folds):
    oracle, _ = temporal.example(EVENTS, valid_begins=VALID_BEGINS, test_begins=TEST_BEGINS)
    assert folds["temporal"] == _expected(oracle)
    assert {fold for fold, _ in oracle.values()} == {"train", "valid", "test"}


def test_random_holds_out_a_share_of_each_user(folds):
    counts = {}
    for (user, _), (fold, _, _) in folds["random"].items():
        counts.setdefault(user, Counter())[fold] += 1
    for user, found in counts.items():
        n = found.total()
        n_test, n_valid = int(n * 0.3 + 0.5), int(n * 0.2 + 0.5)
        wanted = (
            {"test": n_test, "valid": n_valid, "train": n - n_test - n_valid}
            if n - n_test - n_valid >= 2
            else {"train": n}
        )
        assert found == Counter(wanted), user
    weights = Counter()
    for user, item, _ in EVENTS:
        weights[user, item] += HALF
    assert {pair: weight for pair, (_, weight, _) in folds["random"].items()} == weights


def test_another_seed_chooses_other_items(folds, interactions):
    other = _collected(random.split(interactions, valid_share=0.2, test_share=0.3, min_train=2, seed=8))
    assert {pair: fold for pair, (fold, _, _) in other.items()} != {
        pair: fold for pair, (fold, _, _) in folds["random"].items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_same_folds_whatever_the_partitions(folds, interactions, method):
    assert _collected(METHODS[method](interactions.coalesce(1))) == folds[method]


def test_cuts_are_half_open_midnights():
    assert temporal.cuts(date(2026, 3, 1), valid_days=2, test_days=1) == (
        datetime(2026, 2, 27, tzinfo=timezone.utc),
        datetime(2026, 3, 1, tzinfo=timezone.utc),
    )


@pytest.mark.parametrize("second, fold", [(-1, "train"), (0, "valid")])
def test_the_first_instant_of_valid_is_valid(spark, second, fold):
    begins = moment(10)
    row = spark.createDataFrame([(1, 1, moment(10, second), 1.0)], DDL)
    assert temporal.split(row, valid_begins=begins, test_begins=moment(12)).first()["fold"] == fold


@pytest.mark.parametrize(
    "method, cuts, by_user",
    [
        ("last_n", None, True),
        ("temporal", (moment(VALID_BEGINS), moment(TEST_BEGINS)), False),
        ("random", None, False),
    ],
)
def test_audit_counts_what_the_oracle_counts(interactions, folds, method, cuts, by_user):
    oracle = {
        "last_n": lambda: last_n.example(EVENTS, valid_n=2, test_n=1, min_train=3),
        "temporal": lambda: temporal.example(EVENTS, valid_begins=VALID_BEGINS, test_begins=TEST_BEGINS),
        "random": lambda: ({pair: (fold, 0) for pair, (fold, _, _) in folds["random"].items()}, 0),
    }
    placed, repeats = oracle[method]()
    counts = leakage.audit(interactions, METHODS[method](interactions), cuts=cuts, by_user=by_user)
    for name in ("train", "valid", "test"):
        assert counts[name] == sum(fold == name for fold, _ in placed.values())
        assert counts[f"users_with_{name}"] == len({user for (user, _), (fold, _) in placed.items() if fold == name})
    assert counts["repeats"] == repeats
