"""The Spark shell of popularity bias: how popular is what a user had, and what the user gets."""

from __future__ import annotations

from collections.abc import Iterator
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
_HAD, _SHOWN = "had", "shown"
_SCHEMA = pa.schema(
    [
        (c.USER_IDX, pa.int64()),
        (PROFILE, pa.float64()),
        (LISTED, pa.float64()),
        (POPULAR, pa.float64()),
    ]
)


def measure(
    lists: DataFrame,
    positives: DataFrame,
    histories: DataFrame,
    *,
    popularity: np.ndarray,
    k: int,
    share: float,
) -> pa.Table:
    """Grain: user_idx, of the users with positives that `per_user.sample` takes of the same `share`.

    `profile` and `listed` are the mean popularity of the user's history and of the fused list cut at `k`, `popular` the share of
    `popular_items` in the history; NaN without a history or a list. `popularity` int [I]: users who have each item, by item index.
    """
    wanted = sampled(positives, share).select(c.USER_IDX)
    had = sampled(histories, share).select(c.USER_IDX, F.col(c.ITEM_IDX).alias(_HAD))
    fused = sampled(lists, share).where((F.col(c.MODEL) == c.FUSED) & (F.col(c.RANK) <= k))
    shown = fused.groupBy(c.USER_IDX).agg(F.collect_list(c.ITEM_IDX).alias(_SHOWN))
    users = wanted.join(had, c.USER_IDX, "left").join(shown, c.USER_IDX, "left")
    popular = popular_items(popularity)

    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _rows(batch, popularity, popular)

    schema = f"{c.USER_IDX} long, {PROFILE} double, {LISTED} double, {POPULAR} double"
    return users.mapInArrow(rows, schema).toArrow()


def _rows(batch: pa.RecordBatch, popularity: np.ndarray, popular: np.ndarray) -> pa.RecordBatch:
    (cut, had), (ends, shown) = (ragged(batch.column(name)) for name in (_HAD, _SHOWN))
    columns = [
        mean_by_user(cut, popularity[np.asarray(had)]),
        mean_by_user(ends, popularity[np.asarray(shown)]),
        mean_by_user(cut, popular[np.asarray(had)]),
    ]
    return pa.RecordBatch.from_arrays([batch.column(c.USER_IDX), *map(pa.array, columns)], schema=_SCHEMA)
