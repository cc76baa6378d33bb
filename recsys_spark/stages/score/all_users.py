"""Every user's lists, in Spark: the shell round lists.py.

Users never meet in one place: each task takes a part of the histories, batch by batch, against item models that its Python worker maps
into memory. Nothing that has a row a user is broadcast or collected, but for the sample that the fusion is learned on. Spark starts a
worker with OMP_NUM_THREADS = spark.task.cpus, so tasks do not fight over the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark import Accumulator, AccumulatorParam, SparkContext, TaskContext
from pyspark.sql import DataFrame

from recsys_spark import registry
from recsys_spark.columns import (
    BECAUSE,
    DIVERSITY,
    ITEM_IDX,
    MAX_PER_CATEGORY,
    MODEL,
    PADDING_ITEM,
    RANK,
    SCORE,
    SEGMENT,
    SOURCE,
    USER_IDX,
)
from recsys_spark.fusion.sample import DDL, HELD_OUT, SCHEMA
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories
from recsys_spark.rules.exclusions import exhausted
from recsys_spark.stages.score.lists import Ranked, Scored, Search, Wanted, Watch, rank, score_candidates
from recsys_spark.storage import contract as contracts

Opened = Mapping[str, ItemModel]


@dataclass(frozen=True)
class Crew:
    """Who scores: the item model of each name, in the order of the models, `batch` users at a time, in `partitions` tasks (None: in those
    that the histories come in, without a shuffle)."""

    folders: Mapping[str, Path]
    batch: int
    partitions: int | None = None


class Seconds(AccumulatorParam[dict[str, float]]):
    """Adds up what the watches of all tasks say."""

    def zero(self, value: dict[str, float]) -> dict[str, float]:
        return {}

    def addInPlace(self, value1: dict[str, float], value2: dict[str, float]) -> dict[str, float]:
        for name, seconds in value2.items():
            value1[name] = value1.get(name, 0.0) + seconds
        return value1


def stopwatch(spark: SparkContext) -> Accumulator[dict[str, float]]:
    """For `score_users`: the seconds of all tasks together, by model. A task that Spark runs again counts again."""
    return spark.accumulator({}, Seconds())


def score_users(
    histories: DataFrame,
    crew: Crew,
    search: Search,
    wanted: Wanted,
    spent: Accumulator[dict[str, float]] | None = None,
) -> DataFrame:
    """The wanted lists of every user, as the table `candidates`. `histories` is the table of that name, of one moment; `spent` a `stopwatch`."""

    work = partial(_lists, search=search, wanted=wanted, spent=spent)
    return _each_batch(histories, crew, work, contracts.load("candidates").spark_ddl())


def sample_candidates(histories: DataFrame, crew: Crew, search: Search) -> DataFrame:
    """Rows of sample.SCHEMA, one a user.

    `histories` is the table of that name, of one moment, of users with a history, and a column `held_out`.
    """

    return _each_batch(histories, crew, partial(_sample, search=search), DDL)


def count_exhausted(histories: DataFrame, banned: np.ndarray) -> int:
    """Users of the table `histories` to whom nothing is left to show. A pass over all of it, for when somebody has no list."""

    def counts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = int(exhausted(Histories.from_arrow(batch), banned).sum())
            yield pa.RecordBatch.from_pydict({"n": [found]})

    return int(histories.mapInArrow(counts, "n bigint").agg({"n": "sum"}).first()[0] or 0)


def _lists(
    opened: Opened,
    users: pa.RecordBatch,
    search: Search,
    wanted: Wanted,
    spent: Accumulator[dict[str, float]] | None,
) -> Iterator[pa.RecordBatch]:
    watch = Watch()
    for ranked in rank(opened, Histories.from_arrow(users), _on_device(search), wanted, watch):
        yield list_rows(ranked, _ids(users), list(opened))
    if spent is not None:
        spent.add(watch.seconds)


def _sample(opened: Opened, users: pa.RecordBatch, search: Search) -> Iterator[pa.RecordBatch]:
    histories = Histories.from_arrow(users)
    found = score_candidates(opened, histories, _on_device(search), list(opened), Watch())
    yield sample_rows(found, users)


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
    opened = {name: registry.load(Path(folder)) for name, folder in folders.items()}
    for batch in batches:
        for start in range(0, batch.num_rows, size):
            yield from work(opened, batch.slice(start, size))


def list_rows(ranked: Ranked, ids: np.ndarray, names: list[str]) -> pa.RecordBatch:
    """Rows of the table `candidates`, padding left out. `ids` int64 [B] are the users' indices, `names` those of the models."""
    row, column = np.nonzero(ranked.items)
    variety = ranked.variety
    columns = {
        USER_IDX: pa.array(ids[ranked.users[row]]),
        MODEL: _text(np.zeros(len(row), np.int32), [ranked.name]),
        DIVERSITY: pa.repeat(pa.scalar(variety and variety.diversity, pa.float64()), len(row)),
        MAX_PER_CATEGORY: pa.repeat(pa.scalar(variety and variety.cap, pa.int32()), len(row)),
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
    given = {name: users.column(users.schema.names.index(name)) for name in (ITEM_IDX, SEGMENT, HELD_OUT)}
    columns = [
        pa.array(_ids(users)),
        given[ITEM_IDX].cast(pa.list_(pa.int32())),
        given[SEGMENT],
        pa.ListArray.from_arrays(pa.array(ends), pa.array(found.items[real])),
        pa.ListArray.from_arrays(pa.array(ends * np.int32(len(found.scores))), pa.array(by_user)),
        given[HELD_OUT].cast(pa.list_(pa.int32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _ids(users: pa.RecordBatch) -> np.ndarray:
    return users.column(users.schema.names.index(USER_IDX)).to_numpy(zero_copy_only=False)


def _text(codes: np.ndarray, words: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words)).cast(pa.string())
