"""Violates each invariant of a split and tests that the check names it."""

import pytest

from factories import moment
from recsys_spark.errors import ContractViolation
from recsys_spark.stages.split.leakage import check_folds
from recsys_spark.storage import contract as contracts

EVENT_DDL = contracts.load("interactions").spark_ddl("user_idx", "item_idx", "event_ts", "weight")
FOLD_DDL = contracts.load("folds").spark_ddl("user_idx", "item_idx", "event_ts", "weight", "fold")

EVENTS = [
    (1, 1, moment(1), 1.0),
    (1, 2, moment(2), 1.0),
    (1, 1, moment(2), 1.0),
    (1, 3, moment(3), 1.0),
    (1, 1, moment(4), 1.0),
]
# item 1 occurs again at the time of the first validation pair, which is visible in train, and later, which is not
VALID_FOLDS = {1: (moment(1), 2.0, "train"), 2: (moment(2), 1.0, "valid"), 3: (moment(3), 1.0, "test")}
PER_USER = {"boundaries": None, "per_user": True}
BY_DATE = {"boundaries": (moment(2), moment(3)), "per_user": False}


def _check(spark, folds, more=(), **cutoffs):
    rows = [(1, item, *fold) for item, fold in folds.items()] + list(more)
    return check_folds(spark.createDataFrame(EVENTS, EVENT_DDL), spark.createDataFrame(rows, FOLD_DDL), **cutoffs)


def test_valid_folds_are_counted(spark):
    counts = _check(spark, VALID_FOLDS, **PER_USER)
    assert counts == {
        "train": 1,
        "valid": 1,
        "test": 1,
        "repeats": 1,
        "users_with_train": 1,
        "users_with_valid": 1,
        "users_with_test": 1,
    }


@pytest.mark.parametrize(
    "change, more, cutoffs, message",
    [
        (
            {},
            [(1, 2, moment(2), 1.0, "train")],
            PER_USER,
            r"1 pairs are in two folds, or twice in one \(for example user_idx 1, item_idx 2\)",
        ),
        ({3: None}, [], PER_USER, r"1 pairs of interactions are in no fold \(for example user_idx 1, item_idx 3\)"),
        (
            {},
            [(1, 9, moment(1), 1.0, "train")],
            PER_USER,
            "1 pairs of folds do not have the time of a first event in interactions .*item_idx 9",
        ),
        (
            {1: (moment(1, 1), 2.0, "train")},
            [],
            PER_USER,
            "1 pairs of folds do not have the time of a first event in interactions .*item_idx 1",
        ),
        (
            {2: (moment(2), 1.0, "test"), 3: (moment(3), 1.0, "train")},
            [],
            PER_USER,
            "1 pairs begin after the cutoff of their fold .*item_idx 3",
        ),
        (
            {1: (moment(1), 3.0, "train")},
            [],
            PER_USER,
            "1 pairs do not have the weight of the events visible in their fold .*item_idx 1",
        ),
        # an event exactly at the cutoff is visible with cutoffs per user, but not with common boundaries
        ({}, [], BY_DATE, "1 pairs do not have the weight of the events visible in their fold .*item_idx 1"),
        (
            {2: (moment(2), 1.0, "train")},
            [],
            BY_DATE,
            "1 pairs begin after the cutoff of their fold .*item_idx 2",
        ),
    ],
)
def test_the_error_names_the_violated_invariant(spark, change, more, cutoffs, message):
    folds = {item: fold for item, fold in {**VALID_FOLDS, **change}.items() if fold}
    with pytest.raises(ContractViolation, match=message):
        _check(spark, folds, more, **cutoffs)
