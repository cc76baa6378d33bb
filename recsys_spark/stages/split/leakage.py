"""Checks the invariants of a split on the written table, by another computation than the split itself.

1. Every pair of `interactions` is in exactly one fold, with the time of its first event.
2. No pair begins after the cutoff of its fold. last_n: each user has their own cutoffs, the first validation pair for
   train and the first test pair for valid. temporal: all users have the same cutoffs, the begin of valid and of test.
3. The weight of a pair is the sum of the weights of the events visible in its fold. All other events are repeats.
4. A cold user has no pair in another fold. A cold item has no pair in train, valid or test.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import COLD_ITEM, COLD_USER, EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT
from recsys_spark.errors import ContractViolation

FOLDS = (TRAIN, VALID, TEST)
COLD_FOLDS = (COLD_USER, COLD_ITEM)
_ALL_FOLDS = (*FOLDS, *COLD_FOLDS)
INVARIANTS = {
    "two_folds": "are in two folds, or twice in one",
    "unplaced": "of interactions are in no fold",
    "unfounded": "of folds do not have the time of a first event in interactions",
    "leaking": "begin after the cutoff of their fold",
    "misweighed": "do not have the weight of the events visible in their fold",
}
"""Texts of the error, by invariant: "3 pairs …"."""
_TOLERANCE = 1e-4
"""Relative. Weights are summed as float64 and written as float32."""
_BUG = "This is a bug in recsys_spark"

Boundaries = tuple[datetime, datetime] | None


def check_folds(interactions: DataFrame, folds: DataFrame, *, boundaries: Boundaries, per_user: bool) -> dict[str, int]:
    """Check invariants 1 to 3 in one job; return the counts for the manifest.

    `boundaries` are the begins of valid and test for all users (temporal). `per_user` takes each user's cutoffs from
    `folds` (last_n). Without both the folds have no order in time. The counts are the pairs of each fold, the users
    with pairs in each fold, and `repeats`. Empty cold folds are left out. Raises `ContractViolation` with an example.
    """
    rows = _with_cutoffs(_stacked(interactions, folds), folds, boundaries, per_user)
    pairs = _by_pair(rows, _visible(per_user))
    totals = _by_user(pairs).agg(
        *[F.sum(name).alias(name) for name in (*_ALL_FOLDS, "repeats", *INVARIANTS)],
        *[F.count_if(F.col(name) > 0).alias(f"users_with_{name}") for name in _ALL_FOLDS],
    )
    counts = {name: value or 0 for name, value in totals.first().asDict().items()}
    violations = [
        f"{counts[name]:,} pairs {text} (for example {_example(pairs, name)})"
        for name, text in INVARIANTS.items()
        if counts[name]
    ]
    if violations:
        raise ContractViolation(f"split: the table folds is wrong: {'; '.join(violations)}. {_BUG}")
    empty = {name for fold in COLD_FOLDS if not counts[fold] for name in (fold, f"users_with_{fold}")}
    return {name: value for name, value in counts.items() if name not in {*INVARIANTS, *empty}}


def check_cold_folds(folds: DataFrame) -> None:
    """Check invariant 4. Raises `ContractViolation` with an example."""
    # a pair of a cold user and a cold item is in COLD_USER, so a cold item may have pairs there
    for fold, key, forbidden in ((COLD_USER, USER_IDX, (*FOLDS, COLD_ITEM)), (COLD_ITEM, ITEM_IDX, FOLDS)):
        counts = folds.groupBy(key).agg(
            F.count_if(F.col(FOLD) == fold).alias("cold"),
            F.count_if(F.col(FOLD).isin(*forbidden)).alias("others"),
        )
        row = counts.where("cold > 0 AND others > 0").orderBy(key).first()
        if row:
            raise ContractViolation(
                f"split: {key} {row[key]} has {row['cold']:,} pairs in {fold} and {row['others']:,} in other folds. "
                f"{_BUG}"
            )


def _stacked(interactions: DataFrame, folds: DataFrame) -> DataFrame:
    """Return the rows of both tables. FOLD is the fold's number, null for an event. `event` is 1 for an event, or null.

    Folds are numbers because Spark would sort all rows to find the maximum of a text.
    """
    events = interactions.select(
        USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT, F.lit(None).cast("int").alias(FOLD), F.lit(1).alias("event")
    )
    number = F.coalesce(*[F.when(F.col(FOLD) == name, F.lit(i)) for i, name in enumerate(_ALL_FOLDS)])
    return events.unionAll(folds.select(USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT, number, F.lit(None).cast("int")))


def _with_cutoffs(rows: DataFrame, folds: DataFrame, boundaries: Boundaries, per_user: bool) -> DataFrame:
    """Return `rows` with the cutoffs of train and valid, null for none."""
    if per_user:
        later = {TRAIN: F.col(FOLD).isin(VALID, TEST), VALID: F.col(FOLD) == TEST}
        cutoffs = [F.min(F.when(when, F.col(EVENT_TS))).alias(_cutoff(name)) for name, when in later.items()]
        return rows.join(folds.groupBy(USER_IDX).agg(*cutoffs), USER_IDX, "left")
    train, valid = map(F.lit, boundaries or (None, None))
    return rows.withColumns({_cutoff(TRAIN): train.cast("timestamp"), _cutoff(VALID): valid.cast("timestamp")})


def _visible(per_user: bool) -> dict[str, Column]:
    """Return, for each fold, whether it may see an event at a row's time.

    A common boundary is exclusive. A user's own cutoff is the time of an event, and includes events of the same time.
    """
    time = F.col(EVENT_TS)
    before = {
        name: time <= F.col(_cutoff(name)) if per_user else time < F.col(_cutoff(name)) for name in (TRAIN, VALID)
    }
    return {**{name: F.coalesce(visible, F.lit(True)) for name, visible in before.items()}, TEST: F.lit(True)}


def _by_pair(rows: DataFrame, visible: dict[str, Column]) -> DataFrame:
    is_event, is_fold = F.col("event").isNotNull(), F.col(FOLD).isNotNull()
    pairs = rows.groupBy(USER_IDX, ITEM_IDX).agg(
        F.count(FOLD).alias("places"),
        F.count("event").alias("events"),
        F.max(FOLD).alias(FOLD),
        F.max(F.when(is_fold, F.col(EVENT_TS))).alias("begin"),
        F.min(F.when(is_event, F.col(EVENT_TS))).alias("first"),
        F.max(F.when(is_fold, F.col(WEIGHT))).cast("double").alias(WEIGHT),
        F.count_if(is_fold & ~_of_fold(visible)).alias("late"),
        *[F.sum(F.when(is_event & v, F.col(WEIGHT))).alias(f"weight_{name}") for name, v in visible.items()],
        *[F.count_if(is_event & v).alias(f"events_{name}") for name, v in visible.items()],
    )
    visible_weight = _of_fold({name: F.coalesce(f"weight_{name}", F.lit(0.0)) for name in FOLDS})
    repeats = F.col("events") - _of_fold({name: F.col(f"events_{name}") for name in FOLDS})
    return pairs.withColumns({"visible_weight": visible_weight, "repeats": repeats})


def _violated() -> dict[str, Column]:
    """Return, for each invariant, whether a row of `_by_pair` violates it."""
    in_folds, in_events = F.col("places") > 0, F.col("events") > 0
    weight_error = F.abs(F.col(WEIGHT) - F.col("visible_weight"))
    return {
        "two_folds": F.col("places") > 1,
        "unplaced": ~in_folds,
        "unfounded": in_folds & ~(in_events & F.col("begin").eqNullSafe(F.col("first"))),
        "leaking": F.col("late") > 0,
        "misweighed": in_folds & in_events & (weight_error > _TOLERANCE * F.abs(F.col(WEIGHT))),
    }


def _by_user(pairs: DataFrame) -> DataFrame:
    return pairs.groupBy(USER_IDX).agg(
        F.sum("repeats").alias("repeats"),
        *[F.count_if(F.col(FOLD) == i).alias(name) for i, name in enumerate(_ALL_FOLDS)],
        *[F.count_if(violated).alias(name) for name, violated in _violated().items()],
    )


def _example(pairs: DataFrame, invariant: str) -> str:
    """Return the first pair that violates `invariant`. Runs one job."""
    row = pairs.where(_violated()[invariant]).select(USER_IDX, ITEM_IDX).orderBy(USER_IDX, ITEM_IDX).first()
    return f"user_idx {row[USER_IDX]}, item_idx {row[ITEM_IDX]}"


def _of_fold(values: dict[str, Column]) -> Column:
    """Return the value of the row's fold. The cold folds take that of test, which sees all events."""
    return (
        F.when(F.col(FOLD) == FOLDS.index(TRAIN), values[TRAIN])
        .when(F.col(FOLD) == FOLDS.index(VALID), values[VALID])
        .otherwise(values[TEST])
    )


def _cutoff(fold: str) -> str:
    return f"{fold}_cutoff"
