"""Every law of a split is broken once on purpose, and the audit names it."""

import pytest

from factories import moment
from recsys_spark.errors import ContractViolation
from recsys_spark.stages.split.leakage import audit
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
# item 1 is met again when valid begins, which train may know, and after it, which it may not
SOUND = {1: (moment(1), 2.0, "train"), 2: (moment(2), 1.0, "valid"), 3: (moment(3), 1.0, "test")}
BY_USER = {"cuts": None, "by_user": True}
BY_DATE = {"cuts": (moment(2), moment(3)), "by_user": False}


def _audit(spark, folds, more=(), **how):
    rows = [(1, item, *fold) for item, fold in folds.items()] + list(more)
    return audit(spark.createDataFrame(EVENTS, EVENT_DDL), spark.createDataFrame(rows, FOLD_DDL), **how)


def test_sound_folds_pass(spark):
    counts = _audit(spark, SOUND, **BY_USER)
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
    "change, more, how, message",
    [
        (
            {},
            [(1, 2, moment(2), 1.0, "train")],
            BY_USER,
            r"1 pairs stand in two folds, or twice in one \(one: user_idx 1, item_idx 2\)",
        ),
        ({3: None}, [], BY_USER, r"1 pairs of interactions stand in no fold \(one: user_idx 1, item_idx 3\)"),
        (
            {},
            [(1, 9, moment(1), 1.0, "train")],
            BY_USER,
            "1 pairs of folds have no such first event in interactions .*item_idx 9",
        ),
        (
            {1: (moment(1, 1), 2.0, "train")},
            [],
            BY_USER,
            "1 pairs of folds have no such first event in interactions .*item_idx 1",
        ),
        (
            {2: (moment(2), 1.0, "test"), 3: (moment(3), 1.0, "train")},
            [],
            BY_USER,
            "1 pairs begin after what their fold may know ends .*item_idx 3",
        ),
        (
            {1: (moment(1), 3.0, "train")},
            [],
            BY_USER,
            "1 pairs do not weigh what the events weigh that their fold may know .*item_idx 1",
        ),
        # what happens at the very cut is not train's: known to the user's own cut, leaked over a common one
        ({}, [], BY_DATE, "1 pairs do not weigh what the events weigh that their fold may know .*item_idx 1"),
        (
            {2: (moment(2), 1.0, "train")},
            [],
            BY_DATE,
            "1 pairs begin after what their fold may know ends .*item_idx 2",
        ),
    ],
)
def test_a_broken_law_is_named(spark, change, more, how, message):
    folds = {item: fold for item, fold in {**SOUND, **change}.items() if fold}
    with pytest.raises(ContractViolation, match=message):
        _audit(spark, folds, more, **how)
