"""Compares each method with plain Python, and its folds over different partitions."""

import random as stdlib_random
from collections import Counter
from datetime import date, datetime, timezone

import pytest

from factories import moment
from recsys_spark.stages.split import last_n, leakage, random, temporal
from recsys_spark.storage import contract as contracts

DDL = contracts.load("interactions").spark_ddl("user_idx", "item_idx", "event_ts", "weight")
VALID_BEGINS, TEST_BEGINS = 12, 16


def _log():
    """Return about 150 events of 12 users, 14 items and 20 days, with ties, repeats and users with one item."""
    rng = stdlib_random.Random(5)
    events = {(rng.randrange(12), rng.randint(1, 14), rng.randrange(20)) for _ in range(150)}
    return [*sorted(events), (90, 1, 3), (91, 1, 3), (91, 2, 3), (92, 3, 19)]


EVENTS = _log()
HALF = 0.5
"""Weight of each event, so that a sum of weights differs from a count."""


@pytest.fixture(scope="module")
def interactions(spark):
    rows = [(user, item, moment(day), HALF) for user, item, day in EVENTS]
    return spark.createDataFrame(rows, DDL).persist()


def _collected(folds):
    rows = folds.collect()
    assert len({(row["user_idx"], row["item_idx"]) for row in rows}) == len(rows)
    return {(row["user_idx"], row["item_idx"]): (row["fold"], row["weight"], row["event_ts"]) for row in rows}


def _expected(reference):
    first = {}
    for user, item, day in EVENTS:
        first[user, item] = min(day, first.get((user, item), day))
    return {
        pair: (fold, visible * HALF, moment(first[pair]).replace(tzinfo=None))
        for pair, (fold, visible) in reference.items()
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
    reference, _ = last_n.reference_split(EVENTS, valid_n=2, test_n=1, min_train=3)
    assert folds["last_n"] == _expected(reference)
    assert {fold for fold, _ in reference.values()} == {"train", "valid", "test"}


def test_temporal_equals_plain_python(folds):
    reference, _ = temporal.reference_split(EVENTS, valid_begins=VALID_BEGINS, test_begins=TEST_BEGINS)
    assert folds["temporal"] == _expected(reference)
    assert {fold for fold, _ in reference.values()} == {"train", "valid", "test"}


def test_random_holds_out_a_share_of_each_user(folds):
    counts = {}
    for (user, _), (fold, _, _) in folds["random"].items():
        counts.setdefault(user, Counter())[fold] += 1
    for user, user_counts in counts.items():
        n = user_counts.total()
        n_test, n_valid = int(n * 0.3 + 0.5), int(n * 0.2 + 0.5)
        n_train = n - n_test - n_valid
        expected = {"test": n_test, "valid": n_valid, "train": n_train} if n_train >= 2 else {"train": n}
        assert user_counts == Counter(expected), user
    weights = Counter()
    for user, item, _ in EVENTS:
        weights[user, item] += HALF
    assert {pair: weight for pair, (_, weight, _) in folds["random"].items()} == weights


def test_another_seed_holds_out_other_items(folds, interactions):
    other = _collected(random.split(interactions, valid_share=0.2, test_share=0.3, min_train=2, seed=8))
    assert {pair: fold for pair, (fold, _, _) in other.items()} != {
        pair: fold for pair, (fold, _, _) in folds["random"].items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_partitions_do_not_change_the_folds(folds, interactions, method):
    assert _collected(METHODS[method](interactions.coalesce(1))) == folds[method]


def test_boundaries_are_midnights():
    assert temporal.boundaries(date(2026, 3, 1), valid_days=2, test_days=1) == (
        datetime(2026, 2, 27, tzinfo=timezone.utc),
        datetime(2026, 3, 1, tzinfo=timezone.utc),
    )


@pytest.mark.parametrize("second, fold", [(-1, "train"), (0, "valid")])
def test_the_first_instant_of_valid_is_valid(spark, second, fold):
    begins = moment(10)
    row = spark.createDataFrame([(1, 1, moment(10, second), 1.0)], DDL)
    assert temporal.split(row, valid_begins=begins, test_begins=moment(12)).first()["fold"] == fold


@pytest.mark.parametrize(
    "method, boundaries, per_user",
    [
        ("last_n", None, True),
        ("temporal", (moment(VALID_BEGINS), moment(TEST_BEGINS)), False),
        ("random", None, False),
    ],
)
def test_the_check_counts_like_the_reference(interactions, folds, method, boundaries, per_user):
    references = {
        "last_n": lambda: last_n.reference_split(EVENTS, valid_n=2, test_n=1, min_train=3),
        "temporal": lambda: temporal.reference_split(EVENTS, valid_begins=VALID_BEGINS, test_begins=TEST_BEGINS),
        "random": lambda: ({pair: (fold, 0) for pair, (fold, _, _) in folds["random"].items()}, 0),
    }
    placed, repeats = references[method]()
    check = {"boundaries": boundaries, "per_user": per_user}
    counts = leakage.check_folds(interactions, METHODS[method](interactions), **check)
    for name in ("train", "valid", "test"):
        assert counts[name] == sum(fold == name for fold, _ in placed.values())
        assert counts[f"users_with_{name}"] == len({user for (user, _), (fold, _) in placed.items() if fold == name})
    assert counts["repeats"] == repeats
