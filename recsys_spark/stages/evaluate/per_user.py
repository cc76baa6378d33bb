"""Measure ranked lists in Spark tasks: accuracy for each user, model and cutoff. The arithmetic is in metrics/."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.metrics.beyond_accuracy import intra_list_diversity
from recsys_spark.metrics.categories import Categories
from recsys_spark.metrics.ranking import METRICS, hit_matrix, user_metrics
from recsys_spark.storage import contract as contracts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HISTORY = "history"
LIST_DIVERSITY = "list_diversity"
_EXTRA = pa.schema([(HISTORY, pa.int32()), (c.SEGMENT, pa.string()), (LIST_DIVERSITY, pa.float64())])


def measure(
    lists: DataFrame,
    positives: DataFrame,
    histories: DataFrame,
    *,
    models: Sequence[str],
    cutoffs: Sequence[int],
    gate_k: int,
    categories: Categories,
) -> DataFrame:
    """Return one row for each user, model and k: the columns of `user_metrics` and three more.

    These are the user's `history` length and `segment`, and the `list_diversity` of the list at `gate_k` (null at other
    cutoffs, and where too few categories are known). Every user with positives has a row for every model. A missing
    list counts as a list without hits.
    """
    length = max(cutoffs)
    code = F.array_position(F.array(*[F.lit(m) for m in models]), F.col(c.MODEL)).cast("int") - 1
    place = (code * length + F.col(c.RANK) - 1).alias("place")
    ranked = lists.where(F.col(c.MODEL).isin(list(models)) & (F.col(c.RANK) <= length))
    entries = ranked.groupBy(c.USER_IDX).agg(F.collect_list(F.struct(place, F.col(c.ITEM_IDX))).alias("entries"))
    held_out = positives.select(c.USER_IDX, F.col(c.ITEM_IDX).alias("positives"))
    about_users = histories.select(c.USER_IDX, F.size(c.ITEM_IDX).alias(HISTORY), c.SEGMENT)
    users = held_out.join(entries, c.USER_IDX, "left").join(about_users, c.USER_IDX, "left")
    schema = f"{contracts.load('user_metrics').spark_ddl()}, {HISTORY} int, {c.SEGMENT} string, {LIST_DIVERSITY} double"

    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from _rows(batch, models, cutoffs, gate_k, categories)

    return users.mapInArrow(rows, schema)


def shown_counts(lists: DataFrame, k: int) -> pa.Table:
    """Return, for each model and item_idx, the number of lists at cutoff `k` with the item (`shown`), on the driver."""
    return lists.where(F.col(c.RANK) <= k).groupBy(c.MODEL, c.ITEM_IDX).agg(F.count("*").alias("shown")).toArrow()


def means(rows: DataFrame) -> list[dict[str, Any]]:
    """Return, for each model and k, the number of users and the mean of every metric over the rows of `measure`."""
    averages = [F.avg(name).alias(name) for name in (*METRICS, LIST_DIVERSITY)]
    return [row.asDict() for row in rows.groupBy(c.MODEL, c.K).agg(F.count("*").alias("users"), *averages).collect()]


def sampled(rows: DataFrame, share: float) -> DataFrame:
    """Return all rows of about `share` of the users, chosen by hash: the same users whatever the table."""
    if share >= 1:
        return rows
    return rows.where(F.pmod(F.xxhash64(c.USER_IDX), F.lit(1 << 31)) < int(share * (1 << 31)))


def _rows(
    batch: pa.RecordBatch, models: Sequence[str], cutoffs: Sequence[int], gate_k: int, categories: Categories
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch of users, one record batch for each cutoff."""
    lists = _lists(batch.column("entries"), len(models), max(cutoffs))
    indptr, positives = ragged(batch.column("positives"))
    hits, n_positives = hit_matrix(lists, indptr, np.asarray(positives)), np.diff(indptr)
    repeated = np.repeat(np.arange(len(batch)), len(models))
    shared = {name: batch.column(name).take(pa.array(repeated)) for name in (c.USER_IDX, HISTORY, c.SEGMENT)}
    names = pa.array(np.tile(np.array(models, dtype=object), len(batch)), pa.string())
    schema = pa.schema([*contracts.load("user_metrics").arrow_schema(), *_EXTRA])
    for k in cutoffs:
        values = user_metrics(hits, n_positives, k)
        columns = [pa.array(values[name].ravel(), pa.float32()) for name in METRICS]
        diversity = np.full(len(repeated), np.nan)
        if k == gate_k:
            diversity = intra_list_diversity(lists[..., :k].reshape(-1, k), categories)
        ks = pa.array(np.full(len(repeated), k), pa.int32())
        extra = [shared[HISTORY], shared[c.SEGMENT], pa.array(diversity, mask=np.isnan(diversity))]
        # Spark takes the columns by position, so their order must be that of the schema
        yield pa.RecordBatch.from_arrays([shared[c.USER_IDX], names, ks, *columns, *extra], schema=schema)


def _lists(entries: pa.ListArray, n_models: int, length: int) -> np.ndarray:
    """Return int32 [B, M, K] from each user's (place, item) entries in any order; a place is model * K + rank - 1."""
    indptr, flat = ragged(entries)
    lists = np.zeros((len(entries), n_models * length), np.int32)
    users = np.repeat(np.arange(len(entries)), np.diff(indptr))
    lists[users, np.asarray(flat.field(0))] = np.asarray(flat.field(1))
    return lists.reshape(len(entries), n_models, length)


def ragged(column: pa.ListArray) -> tuple[np.ndarray, pa.Array]:
    """Return indptr int64 [B + 1] and the flat values of a list column; a null list is an empty one."""
    lengths = np.asarray(column.value_lengths().fill_null(0), dtype=np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), column.flatten()
