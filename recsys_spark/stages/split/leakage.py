"""The laws of a split, checked on what was written, by another way than it was made.

1. No pair stands in two folds, and the pairs of `folds` are those of `interactions`, each with its first event.
2. Nothing that a fold knows happened after what it must not know. With `last_n`: no train pair of a user begins after their first held-out one, no valid
   pair after their first test one. With `temporal`: every train pair begins before valid does, every valid pair before test does, for everybody.
3. The weight of a pair is that of the events its fold may know, and every other event is counted as a repeat.
4. Who is held out whole is: a cold user has no pair in another fold, a cold item none in train, valid or test.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    COLD_ITEM,
    COLD_USER,
    EVENT_TS,
    FOLD,
    ITEM_IDX,
    TEST,
    TRAIN,
    USER_IDX,
    VALID,
    WEIGHT,
)
from recsys_spark.errors import ContractViolation

FOLDS = (TRAIN, VALID, TEST)
WHOLE = (COLD_USER, COLD_ITEM)
_PLACES = (*FOLDS, *WHOLE)
LAWS = {
    "two_folds": "stand in two folds, or twice in one",
    "unplaced": "of interactions stand in no fold",
    "unfounded": "of folds have no such first event in interactions",
    "leaking": "begin after what their fold may know ends",
    "misweighed": "do not weigh what the events weigh that their fold may know",
}
_TOLERANCE = 1e-4
"""Relative; weights are summed as float64 and written as float32."""

Cuts = tuple[datetime, datetime] | None


def audit(interactions: DataFrame, folds: DataFrame, *, cuts: Cuts, by_user: bool) -> dict[str, int]:
    """Check the laws in one job; returns the counts for the manifest, raises `ContractViolation` with an example.

    `cuts`: when valid and test begin for everybody (temporal). `by_user`: each user's own held-out pairs are the cuts (last_n). Neither: no
    order in time. Counts: pairs of each fold, `repeats` (events that no fold knows), and users with pairs in each; none of the folds of who is held
    out whole, where nobody is.
    """
    rows = _bounded(_stacked(interactions, folds), folds, cuts, by_user)
    pairs = _by_pair(rows, _knows(by_user))
    total = _by_user(pairs).agg(
        *[F.sum(name).alias(name) for name in (*_PLACES, "repeats", *LAWS)],
        *[F.count_if(F.col(name) > 0).alias(f"users_with_{name}") for name in _PLACES],
    )
    counts = {name: value or 0 for name, value in total.first().asDict().items()}
    broken = [
        f"{counts[law]:,} pairs {text} (one: {_example(pairs, law)})" for law, text in LAWS.items() if counts[law]
    ]
    if broken:
        raise ContractViolation(f"split: the folds break their laws: {'; '.join(broken)}; this is a fault of the program")
    idle = {name for fold in WHOLE if not counts[fold] for name in (fold, f"users_with_{fold}")}
    return {name: value for name, value in counts.items() if name not in {*LAWS, *idle}}


def audit_whole(folds: DataFrame) -> None:
    """Check the last law; raises `ContractViolation` with an example."""
    # a pair of both is the user's
    for fold, key, elsewhere in (
        (COLD_USER, USER_IDX, (*FOLDS, COLD_ITEM)),
        (COLD_ITEM, ITEM_IDX, FOLDS),
    ):
        places = folds.groupBy(key).agg(
            F.count_if(F.col(FOLD) == fold).alias("own"),
            F.count_if(F.col(FOLD).isin(*elsewhere)).alias("others"),
        )
        row = places.where("own > 0 AND others > 0").orderBy(key).first()
        if row:
            raise ContractViolation(
                f"split: {key} {row[key]} has {row['own']:,} pairs in {fold} and {row['others']:,} in other folds; "
                "this is a fault of the program"
            )


def _stacked(interactions: DataFrame, folds: DataFrame) -> DataFrame:
    """Rows of both tables under each other: FOLD is null for an event, else the fold's number; `event` is null for a fold's row.

    Numbers, because Spark sorts all rows where it has to find the greatest of texts.
    """
    events = interactions.select(
        USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT, F.lit(None).cast("int").alias(FOLD), F.lit(1).alias("event")
    )
    number = F.coalesce(*[F.when(F.col(FOLD) == name, F.lit(i)) for i, name in enumerate(_PLACES)])
    return events.unionAll(folds.select(USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT, number, F.lit(None).cast("int")))


def _bounded(rows: DataFrame, folds: DataFrame, cuts: Cuts, by_user: bool) -> DataFrame:
    """`rows` and when the knowledge of train and of valid ends, in columns of their names' ends; null: never."""
    if by_user:
        held_out = {TRAIN: F.col(FOLD).isin(VALID, TEST), VALID: F.col(FOLD) == TEST}
        ends = [F.min(F.when(when, F.col(EVENT_TS))).alias(_end(name)) for name, when in held_out.items()]
        return rows.join(folds.groupBy(USER_IDX).agg(*ends), USER_IDX, "left")
    train, valid = map(F.lit, cuts or (None, None))
    return rows.withColumns({_end(TRAIN): train.cast("timestamp"), _end(VALID): valid.cast("timestamp")})


def _knows(by_user: bool) -> dict[str, Column]:
    """Whether each fold may know of a row's time. A user's own cut is the moment of an event, which may have company."""
    at = F.col(EVENT_TS)
    ends = {name: at <= F.col(_end(name)) if by_user else at < F.col(_end(name)) for name in (TRAIN, VALID)}
    return {**{name: F.coalesce(known, F.lit(True)) for name, known in ends.items()}, TEST: F.lit(True)}


def _by_pair(rows: DataFrame, knows: dict[str, Column]) -> DataFrame:
    is_event, is_fold = F.col("event").isNotNull(), F.col(FOLD).isNotNull()
    late = is_fold & ~_of_fold(knows)
    pairs = rows.groupBy(USER_IDX, ITEM_IDX).agg(
        F.count(FOLD).alias("places"),
        F.count("event").alias("events"),
        F.max(FOLD).alias(FOLD),
        F.max(F.when(is_fold, F.col(EVENT_TS))).alias("begin"),
        F.min(F.when(is_event, F.col(EVENT_TS))).alias("first"),
        F.max(F.when(is_fold, F.col(WEIGHT))).cast("double").alias(WEIGHT),
        F.count_if(late).alias("late"),
        *[F.sum(F.when(is_event & known, F.col(WEIGHT))).alias(f"weight_{name}") for name, known in knows.items()],
        *[F.count_if(is_event & known).alias(f"events_{name}") for name, known in knows.items()],
    )
    known = _of_fold({name: F.coalesce(f"weight_{name}", F.lit(0.0)) for name in FOLDS})
    repeats = F.col("events") - _of_fold({name: F.col(f"events_{name}") for name in FOLDS})
    return pairs.withColumns({"known": known, "repeats": repeats})


def _broken() -> dict[str, Column]:
    """Where a row of `_by_pair` breaks each law."""
    placed, happened = F.col("places") > 0, F.col("events") > 0
    return {
        "two_folds": F.col("places") > 1,
        "unplaced": ~placed,
        "unfounded": placed & ~(happened & F.col("begin").eqNullSafe(F.col("first"))),
        "leaking": F.col("late") > 0,
        "misweighed": placed & happened & (F.abs(F.col(WEIGHT) - F.col("known")) > _TOLERANCE * F.abs(F.col(WEIGHT))),
    }


def _by_user(pairs: DataFrame) -> DataFrame:
    return pairs.groupBy(USER_IDX).agg(
        F.sum("repeats").alias("repeats"),
        *[F.count_if(F.col(FOLD) == i).alias(name) for i, name in enumerate(_PLACES)],
        *[F.count_if(when).alias(law) for law, when in _broken().items()],
    )


def _example(pairs: DataFrame, law: str) -> str:
    """The first pair that breaks `law`. Runs a job of its own."""
    row = pairs.where(_broken()[law]).select(USER_IDX, ITEM_IDX).orderBy(USER_IDX, ITEM_IDX).first()
    return f"user_idx {row[USER_IDX]}, item_idx {row[ITEM_IDX]}"


def _of_fold(values: dict[str, Column]) -> Column:
    """The value of the row's own fold; who is held out whole knows all, as test does."""
    return (
        F.when(F.col(FOLD) == FOLDS.index(TRAIN), values[TRAIN])
        .when(F.col(FOLD) == FOLDS.index(VALID), values[VALID])
        .otherwise(values[TEST])
    )


def _end(fold: str) -> str:
    return f"{fold}_ends"
