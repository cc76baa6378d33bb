"""Measure in Spark tasks how popular the items of a user's history and list are. groups.py compares users by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.metrics.popularity_bias import mean_by_user, popular_items
from recsys_spark.stages.evaluate.per_user import ragged, sampled

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PROFILE, LISTED, POPULAR = "profile", "listed", "popular"
_HISTORY, _LIST = "history", "list"
_SCHEMA = pa.schema(
    [(c.USER_IDX, pa.int64()), (PROFILE, pa.float64()), (LISTED, pa.float64()), (POPULAR, pa.float64())]
)


@dataclass(frozen=True)
class UserPopularity:
    """float64 [U] each, in order of user_idx, NaN where unknown.

    `profile` and `listed` are the mean popularity of a user's history and list, `popular` is the share of popular items
    in the history. The popularity of an item is its number of users.
    """

    profile: np.ndarray
    listed: np.ndarray
    popular: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> UserPopularity:
        """Return the columns of `measure`'s table."""
        order = np.argsort(np.asarray(table[c.USER_IDX]))
        return cls(*(np.asarray(table[name], np.float64)[order] for name in (PROFILE, LISTED, POPULAR)))


def measure(
    lists: DataFrame, positives: DataFrame, histories: DataFrame, *, popularity: np.ndarray, k: int, share: float
) -> pa.Table:
    """Return user_idx, `profile`, `listed` and `popular` of the users with positives that `sampled` chooses.

    `listed` is that of the fused list at cutoff `k`. A user without a history or list has NaN. `popularity` int [I] is
    the number of users of each item, by item index.
    """
    users = sampled(positives, share).select(c.USER_IDX)
    history = sampled(histories, share).select(c.USER_IDX, F.col(c.ITEM_IDX).alias(_HISTORY))
    fused = sampled(lists, share).where((F.col(c.MODEL) == c.FUSED) & (F.col(c.RANK) <= k))
    listed = fused.groupBy(c.USER_IDX).agg(F.collect_list(c.ITEM_IDX).alias(_LIST))
    both = users.join(history, c.USER_IDX, "left").join(listed, c.USER_IDX, "left")
    popular = popular_items(popularity)

    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _rows(batch, popularity, popular)

    return both.mapInArrow(rows, f"{c.USER_IDX} long, {PROFILE} double, {LISTED} double, {POPULAR} double").toArrow()


def _rows(batch: pa.RecordBatch, popularity: np.ndarray, popular: np.ndarray) -> pa.RecordBatch:
    (indptr, history), (list_indptr, listed) = (ragged(batch.column(name)) for name in (_HISTORY, _LIST))
    columns = [
        mean_by_user(indptr, popularity[np.asarray(history)]),
        mean_by_user(list_indptr, popularity[np.asarray(listed)]),
        mean_by_user(indptr, popular[np.asarray(history)]),
    ]
    return pa.RecordBatch.from_arrays([batch.column(c.USER_IDX), *map(pa.array, columns)], schema=_SCHEMA)
