"""Histories and positives: what may be known of each user at one moment, and what is held out. The first tables of the features stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    AS_OF,
    EVENT_TS,
    FOLD,
    ITEM_IDX,
    RELEASE,
    SEGMENT,
    TEST,
    TRAIN,
    USER_IDX,
    VALID,
    WEIGHT,
)
from recsys_spark.spark.tie_order import tie_order

BACKTEST_MOMENTS = {VALID: (TRAIN,), TEST: (TRAIN, VALID)}
"""as_of: the folds that are known then."""
RELEASE_MOMENTS = {RELEASE: (TRAIN,)}

_PAIRS, _SECONDS = "pairs", "seconds"


def make_histories(folds: DataFrame, users: DataFrame, moments: Mapping[str, Sequence[str]]) -> DataFrame:
    """The `histories` table for every as_of of `moments`: one row for each (as_of, user of `users`), key as_of, user_idx.

    A pair stands in one fold only, so the folds of a moment never name an item twice.
    """
    seconds = F.coalesce(F.unix_seconds(EVENT_TS), F.lit(0).cast("bigint")).alias(_SECONDS)
    # sorted as structs: by time and the user's order of ties; no two pairs of a user are alike in both, so the rest never decides
    tie = tie_order(F.col(USER_IDX), F.col(ITEM_IDX).cast("bigint"))
    pair = F.struct(EVENT_TS, tie.alias("tie"), ITEM_IDX, FOLD, WEIGHT, seconds)
    grouped = folds.groupBy(USER_IDX).agg(F.sort_array(F.collect_list(pair)).alias(_PAIRS))
    # both sides lie by user then; a small log's histories would else be broadcast, and one task would write them all
    known = users.select(USER_IDX, SEGMENT).join(grouped.hint("merge"), USER_IDX, "left")
    views = F.array(
        *[F.struct(F.lit(as_of).alias(AS_OF), _known(names).alias(_PAIRS)) for as_of, names in moments.items()]
    )
    return known.select(USER_IDX, SEGMENT, F.inline(views)).select(
        USER_IDX,
        F.col(f"{_PAIRS}.{ITEM_IDX}"),
        F.col(f"{_PAIRS}.{_SECONDS}").alias(EVENT_TS),
        F.col(f"{_PAIRS}.{WEIGHT}"),
        SEGMENT,
        AS_OF,
    )


def make_positives(folds: DataFrame) -> DataFrame:
    """The `positives` table: held-out items, key as_of (the fold they stand in), user_idx.

    A cold user has all that they chose, the cold items too, which no popularity can find; a warm one the cold items that they chose.
    """
    held_out = folds.where(F.col(FOLD) != TRAIN)
    items = F.sort_array(F.collect_list(ITEM_IDX)).alias(ITEM_IDX)
    return held_out.groupBy(F.col(FOLD).alias(AS_OF), USER_IDX).agg(items)


def _known(names: Sequence[str]) -> Column:
    """The pairs whose fold is one of `names`; an empty list for a user without any."""
    return F.coalesce(F.filter(_PAIRS, lambda p: p[FOLD].isin(*names)), F.expr("array()"))
