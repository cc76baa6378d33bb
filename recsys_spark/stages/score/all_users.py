"""Lists of all users: the Spark shell around lists.py.

Each task takes a part of the histories, batch by batch. Its Python worker memory-maps the item models, so nothing with
a row per user is broadcast or collected, except the sample for choosing the fusion. Spark starts a worker with
OMP_NUM_THREADS = spark.task.cpus, so tasks do not compete for cores.
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
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from recsys_spark import columns as c
from recsys_spark import registry
from recsys_spark.fusion.sample import HELD_OUT, SCHEMA
from recsys_spark.models.histories import Histories
from recsys_spark.rules.banned_items import exhausted
from recsys_spark.stages.score.lists import (
    Candidates,
    CandidateSearch,
    ListRequest,
    Models,
    RankedLists,
    Stopwatch,
    rank,
    score_candidates,
)
from recsys_spark.storage import contract as contracts

Work = Callable[[Models, pa.RecordBatch], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class ScoringPlan:
    """The folder of each item model, in order, and how users are divided: `partitions` tasks, `batch` users at a time.

    With `partitions` None there are as many tasks as the histories have partitions, and no shuffle.
    """

    folders: Mapping[str, Path]
    batch: int
    partitions: int | None = None


class Seconds(AccumulatorParam[dict[str, float]]):
    """Adds up the seconds of all tasks, by model."""

    def zero(self, value: dict[str, float]) -> dict[str, float]:
        return {}

    def addInPlace(self, value1: dict[str, float], value2: dict[str, float]) -> dict[str, float]:
        for name, seconds in value2.items():
            value1[name] = value1.get(name, 0.0) + seconds
        return value1


def seconds_by_model(spark: SparkContext) -> Accumulator[dict[str, float]]:
    """Return an accumulator for `score_users`. A task that Spark runs again counts again."""
    return spark.accumulator({}, Seconds())


def score_users(
    histories: DataFrame,
    plan: ScoringPlan,
    search: CandidateSearch,
    request: ListRequest,
    seconds: Accumulator[dict[str, float]] | None = None,
) -> DataFrame:
    """Return the requested lists of every user, as the table `candidates`.

    `histories` is the table of that name as of one moment. `seconds` comes from `seconds_by_model`.
    """
    work = partial(_rank_batch, search=search, request=request, seconds=seconds)
    return _map_batches(histories, plan, work, contracts.load("candidates").spark_ddl())


def sample_candidates(histories: DataFrame, plan: ScoringPlan, search: CandidateSearch) -> DataFrame:
    """Return rows of `sample.SCHEMA`, one a user.

    `histories` is the table of that name as of one moment, of users with a history, and has a column `held_out`.
    """
    return _map_batches(histories, plan, partial(_sample_batch, search=search), from_arrow_schema(SCHEMA))


def count_exhausted(histories: DataFrame, banned: np.ndarray) -> int:
    """Return the number of users of the table `histories` for whom no item is left. It reads the whole table."""

    def counts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"n": [int(exhausted(Histories.from_arrow(batch), banned).sum())]})

    return int(histories.mapInArrow(counts, "n bigint").agg({"n": "sum"}).first()[0] or 0)


def _map_batches(histories: DataFrame, plan: ScoringPlan, work: Work, schema: StructType | str) -> DataFrame:
    if plan.partitions:
        # sorted, so that the batches of a task do not depend on the order in which the shuffle delivers rows
        histories = histories.repartition(plan.partitions, c.USER_IDX).sortWithinPartitions(c.USER_IDX)
    folders = {name: str(folder) for name, folder in plan.folders.items()}
    return histories.mapInArrow(partial(_run_task, folders=folders, size=plan.batch, work=work), schema)


def _run_task(
    batches: Iterator[pa.RecordBatch], folders: Mapping[str, str], size: int, work: Work
) -> Iterator[pa.RecordBatch]:
    models = {name: registry.load(Path(folder)) for name, folder in folders.items()}
    for batch in batches:
        for start in range(0, batch.num_rows, size):
            yield from work(models, batch.slice(start, size))


def _rank_batch(
    models: Models,
    users: pa.RecordBatch,
    search: CandidateSearch,
    request: ListRequest,
    seconds: Accumulator[dict[str, float]] | None,
) -> Iterator[pa.RecordBatch]:
    watch = Stopwatch()
    for lists in rank(models, Histories.from_arrow(users), _on_device(search), request, watch):
        yield list_rows(lists, _column(users, c.USER_IDX).to_numpy())
    if seconds is not None:
        seconds.add(watch.seconds)


def _sample_batch(models: Models, users: pa.RecordBatch, search: CandidateSearch) -> Iterator[pa.RecordBatch]:
    histories = Histories.from_arrow(users)
    yield sample_rows(score_candidates(models, histories, _on_device(search), list(models), Stopwatch()), users)


def _on_device(search: CandidateSearch) -> CandidateSearch:
    """`search` on the GPU that Spark assigned to the task (spark.task.resource.gpu.amount), if there is one."""
    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    return replace(search, device=f"cuda:{gpu.addresses[0]}") if gpu else search


def list_rows(lists: RankedLists, ids: np.ndarray) -> pa.RecordBatch:
    """Return rows of the table `candidates`, without padding. `ids` int64 [B] are the user_idx of the batch."""
    row, column = np.nonzero(lists.items)
    settings = lists.diversification
    because = pa.nulls(len(row), pa.int32())
    if lists.because is not None:
        reasons = lists.because[row, column]
        because = pa.array(reasons, mask=reasons == c.PADDING_ITEM)
    columns = {
        c.USER_IDX: pa.array(ids[lists.users[row]]),
        c.MODEL: pa.repeat(lists.name, len(row)),
        c.DIVERSITY: pa.repeat(pa.scalar(settings and settings.diversity, pa.float64()), len(row)),
        c.MAX_PER_CATEGORY: pa.repeat(pa.scalar(settings and settings.max_per_category, pa.int32()), len(row)),
        c.RANK: pa.array((column + 1).astype(np.int32)),
        c.ITEM_IDX: pa.array(lists.items[row, column]),
        c.SCORE: pa.array(lists.scores[row, column]),
        c.SOURCE: pa.array(lists.source_names, pa.string()).take(pa.array(lists.sources[row, column])),
        c.BECAUSE: because,
    }
    schema = pa.schema([field.with_nullable(True) for field in contracts.load("candidates").arrow_schema()])
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def sample_rows(candidates: Candidates, users: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of `sample.SCHEMA` for a batch of `users`, without padding."""
    real = candidates.items != c.PADDING_ITEM
    by_user = candidates.scores.transpose(1, 0, 2)
    scores = by_user[np.broadcast_to(real[:, None], by_user.shape)]
    ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))]).astype(np.int32)
    columns = [
        _column(users, c.USER_IDX),
        _column(users, c.ITEM_IDX).cast(pa.list_(pa.int32())),
        _column(users, c.SEGMENT),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(candidates.items[real])),
        pa.ListArray.from_arrays(pa.array(ends * np.int32(by_user.shape[1])), pa.array(scores)),
        _column(users, HELD_OUT).cast(pa.list_(pa.int32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.names.index(name))
