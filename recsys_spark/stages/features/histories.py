"""Makes the tables `histories`, the known items of each user as of a fold, and `positives`, the held-out items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    AS_OF,
    BACKTEST,
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

HISTORY_FOLDS = {
    BACKTEST: {VALID: (TRAIN,), TEST: (TRAIN, VALID)},
    RELEASE: {RELEASE: (TRAIN,)},
}
"""For each pass, the values of `as_of` and the folds in the history of each."""

_PAIRS, _SECONDS = "pairs", "seconds"


def make_histories(folds: DataFrame, users: DataFrame, history_folds: Mapping[str, Sequence[str]]) -> DataFrame:
    """Return the table `histories`: a row for each user of `users` and each as_of of `history_folds`.

    A pair is in one fold only, so no item occurs twice in a history.
    """
    seconds = F.coalesce(F.unix_seconds(EVENT_TS), F.lit(0).cast("bigint")).alias(_SECONDS)
    # structs sort by time, then by the tie order, which is unique within a user
    tie = tie_order(F.col(USER_IDX), F.col(ITEM_IDX).cast("bigint"))
    pair = F.struct(EVENT_TS, tie.alias("tie"), ITEM_IDX, FOLD, WEIGHT, seconds)
    grouped = folds.groupBy(USER_IDX).agg(F.sort_array(F.collect_list(pair)).alias(_PAIRS))
    # without the hint Spark broadcasts the pairs of a small log, and one task writes all histories
    with_pairs = users.select(USER_IDX, SEGMENT).join(grouped.hint("merge"), USER_IDX, "left")
    rows = F.array(
        *[F.struct(F.lit(as_of).alias(AS_OF), _in_folds(names).alias(_PAIRS)) for as_of, names in history_folds.items()]
    )
    return with_pairs.select(USER_IDX, SEGMENT, F.inline(rows)).select(
        USER_IDX,
        F.col(f"{_PAIRS}.{ITEM_IDX}"),
        F.col(f"{_PAIRS}.{_SECONDS}").alias(EVENT_TS),
        F.col(f"{_PAIRS}.{WEIGHT}"),
        SEGMENT,
        AS_OF,
    )


def make_positives(folds: DataFrame) -> DataFrame:
    """Return the table `positives`: the held-out items, key as_of (their fold), user_idx.

    The fold `cold_user` has all items of its users, cold items too. The fold `cold_item` has only warm users.
    """
    held_out = folds.where(F.col(FOLD) != TRAIN)
    items = F.sort_array(F.collect_list(ITEM_IDX)).alias(ITEM_IDX)
    return held_out.groupBy(F.col(FOLD).alias(AS_OF), USER_IDX).agg(items)


def _in_folds(names: Sequence[str]) -> Column:
    """Return the pairs in one of the folds, an empty list for a user without any."""
    return F.coalesce(F.filter(_PAIRS, lambda p: p[FOLD].isin(*names)), F.expr("array()"))
