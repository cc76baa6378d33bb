"""Every user's lists, in Spark: the shell round lists.py.

Users never meet in one place: each task takes a part of the histories, batch by batch, against item models that its Python worker maps
into memory. Nothing that has a row a user is broadcast or collected, but for the sample that the blend is learned on. Spark starts a
worker with OMP_NUM_THREADS = spark.task.cpus, so tasks do not fight over the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame

from recsys_spark.columns import BECAUSE, ITEM_IDX, MODEL, PADDING_ITEM, RANK, SCORE, SOURCE, USER_IDX
from recsys_spark.item_models.base import ItemModel
from recsys_spark.item_models.histories import Histories
from recsys_spark.score import models
from recsys_spark.score.exclusions import exhausted
from recsys_spark.score.lists import Ranked, Scored, Search, Wanted, rank, score_candidates
from recsys_spark.tables import contract as contracts

HELD_OUT = "held_out"
SCORES = "scores"

_SAMPLE = pa.schema(
    {
        USER_IDX: pa.int64(),
        ITEM_IDX: pa.list_(pa.int32()),
        SCORES: pa.list_(pa.float32()),
        HELD_OUT: pa.list_(pa.int32()),
    }
)
_SAMPLE_DDL = f"{USER_IDX} bigint, {ITEM_IDX} array<int>, {SCORES} array<float>, {HELD_OUT} array<int>"

Opened = Mapping[str, ItemModel]


@dataclass(frozen=True)
class Crew:
    """Who scores: the item model of each name, in the order of the models, `batch` users at a time, in `partitions` tasks (None: in those
    that the histories come in, without a shuffle)."""

    folders: Mapping[str, Path]
    batch: int
    partitions: int | None = None


def score_users(histories: DataFrame, crew: Crew, search: Search, wanted: Wanted) -> DataFrame:
    """The wanted lists of every user, as the table `candidates`. `histories` is the table of that name, of one moment."""

    work = partial(_lists, search=search, wanted=wanted)
    return _each_batch(histories, crew, work, contracts.load("candidates").spark_ddl())


def sample_candidates(histories: DataFrame, crew: Crew, search: Search) -> DataFrame:
    """One row a user: their candidates, every model's scores of them (model by model), and their held-out items.

    `histories` is the table of that name, of one moment, of users with a history, and a column `held_out`.
    """

    return _each_batch(histories, crew, partial(_sample, search=search), _SAMPLE_DDL)


def count_exhausted(histories: DataFrame, banned: np.ndarray) -> int:
    """Users of the table `histories` to whom nothing is left to show. A pass over all of it, for when somebody has no list."""

    def counts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = int(exhausted(Histories.from_arrow(batch), banned).sum())
            yield pa.RecordBatch.from_pydict({"n": [found]})

    return int(histories.mapInArrow(counts, "n bigint").agg({"n": "sum"}).first()[0] or 0)


def _lists(opened: Opened, users: pa.RecordBatch, search: Search, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    for ranked in rank(opened, Histories.from_arrow(users), _on_device(search), wanted):
        yield list_rows(ranked, _ids(users), list(opened))


def _sample(opened: Opened, users: pa.RecordBatch, search: Search) -> Iterator[pa.RecordBatch]:
    yield sample_rows(score_candidates(opened, Histories.from_arrow(users), _on_device(search)), users)


def _on_device(search: Search) -> Search:
    """With the GPU that Spark gave this task (`spark.task.resource.gpu.amount`), if it gave one."""
    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    return replace(search, device=f"cuda:{gpu.addresses[0]}") if gpu else search


def _each_batch(
    histories: DataFrame,
    crew: Crew,
    work: Callable[[Opened, pa.RecordBatch], Iterator[pa.RecordBatch]],
    ddl: str,
) -> DataFrame:
    folders = {name: str(folder) for name, folder in crew.folders.items()}
    parts = histories
    if crew.partitions:
        # sorted, so that the batches of a task do not depend on the order in which the shuffle delivers
        parts = histories.repartition(crew.partitions, USER_IDX).sortWithinPartitions(USER_IDX)
    return parts.mapInArrow(partial(_work_through, folders=folders, size=crew.batch, work=work), ddl)


def _work_through(
    batches: Iterator[pa.RecordBatch],
    folders: Mapping[str, str],
    size: int,
    work: Callable[[Opened, pa.RecordBatch], Iterator[pa.RecordBatch]],
) -> Iterator[pa.RecordBatch]:
    opened = {name: models.load(Path(folder)) for name, folder in folders.items()}
    for batch in batches:
        for start in range(0, batch.num_rows, size):
            yield from work(opened, batch.slice(start, size))


def list_rows(ranked: Ranked, ids: np.ndarray, names: list[str]) -> pa.RecordBatch:
    """Rows of the table `candidates`, padding left out. `ids` int64 [B] are the users' indices, `names` those of the models."""
    row, column = np.nonzero(ranked.items)
    columns = {
        USER_IDX: pa.array(ids[ranked.users[row]]),
        MODEL: _text(np.zeros(len(row), np.int32), [ranked.name]),
        RANK: pa.array((column + 1).astype(np.int32)),
        ITEM_IDX: pa.array(ranked.items[row, column]),
        SCORE: pa.array(ranked.scores[row, column]),
        SOURCE: _text(ranked.sources[row, column].astype(np.int32), names),
        BECAUSE: _reasons(ranked, row, column),
    }
    schema = pa.schema([field.with_nullable(True) for field in contracts.load("candidates").arrow_schema()])
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _reasons(ranked: Ranked, row: np.ndarray, column: np.ndarray) -> pa.Array:
    """int32, null where there is none."""
    if ranked.reasons is None:
        return pa.nulls(len(row), pa.int32())
    found = ranked.reasons[row, column]
    return pa.array(found, mask=found == PADDING_ITEM)


def sample_rows(found: Scored, users: pa.RecordBatch) -> pa.RecordBatch:
    """The sample's rows of a batch; padding left out."""
    real = found.items > 0
    ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))]).astype(np.int32)
    by_user = found.scores.transpose(1, 0, 2)[
        np.broadcast_to(real[:, None, :], (len(real), len(found.scores), real.shape[1]))
    ]
    columns = [
        pa.array(_ids(users)),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(found.items[real])),
        pa.ListArray.from_arrays(pa.array(ends * np.int32(len(found.scores))), pa.array(by_user)),
        users.column(users.schema.names.index(HELD_OUT)).cast(pa.list_(pa.int32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SAMPLE)


def unpack_sample(sample: pa.Table, n_models: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The sample by ascending user: items int32 [U, C] ascending and 0-padded, scores float32 [M, U, C], held-out items of each user."""
    sample = sample.sort_by(USER_IDX).combine_chunks()
    flat_items, flat_scores = (
        np.asarray(sample[name].combine_chunks().flatten()) for name in (ITEM_IDX, SCORES)
    )
    lengths = np.asarray(sample[ITEM_IDX].combine_chunks().value_lengths(), np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    columns = np.arange(len(rows)) - starts[rows]
    items = np.zeros((len(lengths), int(lengths.max(initial=0))), np.int32)
    items[rows, columns] = flat_items
    scores = np.zeros((n_models, *items.shape), np.float32)
    for m in range(n_models):
        scores[m, rows, columns] = flat_scores[starts[rows] * n_models + m * lengths[rows] + columns]
    return items, scores, [np.asarray(held_out.values) for held_out in sample[HELD_OUT]]


def _ids(users: pa.RecordBatch) -> np.ndarray:
    return users.column(users.schema.names.index(USER_IDX)).to_numpy(zero_copy_only=False)


def _text(codes: np.ndarray, words: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words)).cast(pa.string())
