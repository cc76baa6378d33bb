"""The Spark shell of the metrics: ranked lists and held-out items in, one row for each user, model and cutoff out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.metrics.beyond_accuracy import intra_list_diversity
from recsys_spark.metrics.ranking import METRICS, hit_matrix, user_metrics
from recsys_spark.storage import contract as contracts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HISTORY = "history"
DIVERSITY = "diversity"
_EXTRA = pa.schema([(HISTORY, pa.int32()), (c.SEGMENT, pa.string()), (DIVERSITY, pa.float64())])


def measure(
    lists: DataFrame,
    positives: DataFrame,
    histories: DataFrame,
    *,
    models: Sequence[str],
    cutoffs: Sequence[int],
    gate_k: int,
    categories: sp.csr_matrix,
) -> DataFrame:
    """Grain: user, model, k. The columns of `user_metrics`, the user's `history` length and `segment`, and the `diversity` of the list cut at
    `gate_k` (null at other cutoffs, and where no category is known).

    Every user with positives is measured on every model; a list that is not there counts as one without hits. `categories` as in
    `intra_list_diversity`.
    """
    length = max(cutoffs)
    code = F.array_position(F.array(*[F.lit(m) for m in models]), F.col(c.MODEL)).cast("int") - 1
    place = (code * length + F.col(c.RANK) - 1).alias("place")
    ranked = lists.where(F.col(c.MODEL).isin(list(models)) & (F.col(c.RANK) <= length))
    entries = ranked.groupBy(c.USER_IDX).agg(F.collect_list(F.struct(place, F.col(c.ITEM_IDX))).alias("entries"))
    wanted = positives.select(c.USER_IDX, F.col(c.ITEM_IDX).alias("positives"))
    known = histories.select(c.USER_IDX, F.size(c.ITEM_IDX).alias(HISTORY), c.SEGMENT)
    users = wanted.join(entries, c.USER_IDX, "left").join(known, c.USER_IDX, "left")
    schema = f"{contracts.load('user_metrics').spark_ddl()}, {HISTORY} int, {c.SEGMENT} string, {DIVERSITY} double"

    def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from _rows(batch, models, cutoffs, gate_k, categories)

    return users.mapInArrow(rows, schema)


def shown_counts(lists: DataFrame, k: int) -> pa.Table:
    """Grain: model, item_idx. How many of the lists cut at `k` show the item (item-sized, on the driver)."""
    return lists.where(F.col(c.RANK) <= k).groupBy(c.MODEL, c.ITEM_IDX).agg(F.count("*").alias("shown")).toArrow()


def means(rows: DataFrame) -> list[dict[str, Any]]:
    """Grain: model, k. Number of users and mean of every metric, over all rows of `measure`."""
    averages = [F.avg(name).alias(name) for name in (*METRICS, DIVERSITY)]
    return [row.asDict() for row in rows.groupBy(c.MODEL, c.K).agg(F.count("*").alias("users"), *averages).collect()]


def sample(rows: DataFrame, share: float) -> pa.Table:
    """The `sampled` rows, on the driver."""
    return sampled(rows, share).toArrow()


def sampled(rows: DataFrame, share: float) -> DataFrame:
    """All rows of about `share` of the users, chosen by the hash of their index: the same users of every table."""
    if share >= 1:
        return rows
    return rows.where(F.pmod(F.xxhash64(c.USER_IDX), F.lit(1 << 31)) < int(share * (1 << 31)))


def _rows(
    batch: pa.RecordBatch,
    models: Sequence[str],
    cutoffs: Sequence[int],
    gate_k: int,
    categories: sp.csr_matrix,
) -> Iterator[pa.RecordBatch]:
    """The rows of a batch of users, one batch for each cutoff."""
    lists = _lists(batch.column("entries"), len(models), max(cutoffs))
    indptr, positives = ragged(batch.column("positives"))
    hits, n_positives = hit_matrix(lists, indptr, np.asarray(positives)), np.diff(indptr)
    repeated = np.repeat(np.arange(len(batch)), len(models))
    # by position, so that each batch has the columns in the order that the schema names them
    shared = {name: batch.column(name).take(pa.array(repeated)) for name in (c.USER_IDX, HISTORY, c.SEGMENT)}
    names = pa.array(np.tile(np.array(models, dtype=object), len(batch)), pa.string())
    for k in cutoffs:
        values = user_metrics(hits, n_positives, k)
        columns = [pa.array(values[name].ravel(), pa.float32()) for name in METRICS]
        diversity = (
            intra_list_diversity(lists[..., :k].reshape(-1, k), categories)
            if k == gate_k
            else np.full(len(repeated), np.nan)
        )
        ks = pa.array(np.full(len(repeated), k), pa.int32())
        extra = [shared[HISTORY], shared[c.SEGMENT], pa.array(diversity, mask=np.isnan(diversity))]
        schema = pa.schema([*contracts.load("user_metrics").arrow_schema(), *_EXTRA])
        yield pa.RecordBatch.from_arrays([shared[c.USER_IDX], names, ks, *columns, *extra], schema=schema)


def _lists(entries: pa.ListArray, n_models: int, length: int) -> np.ndarray:
    """int32 [B, M, K] from each user's (place, item) entries; a place is model * K + rank - 1, so no order is needed."""
    indptr, flat = ragged(entries)
    lists = np.zeros((len(entries), n_models * length), np.int32)
    users = np.repeat(np.arange(len(entries)), np.diff(indptr))
    lists[users, np.asarray(flat.field(0))] = np.asarray(flat.field(1))
    return lists.reshape(len(entries), n_models, length)


def ragged(column: pa.ListArray) -> tuple[np.ndarray, pa.Array]:
    """(indptr int64 [B + 1], flat values) of a list column; a null list is an empty one."""
    lengths = np.asarray(column.value_lengths().fill_null(0), dtype=np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), column.flatten()
