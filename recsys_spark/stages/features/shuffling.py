"""The global random order of the examples, and their equal row groups.

Only small rows are sorted and sent round: (user, position) pairs get their place in the table, then each shard, one or more row groups that follow each
other, fetches the histories of the users it has an example of, and the wide examples are made where they are written. A history travels once to each
shard, so shards stay few where row groups become many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, ITEM_IDX, USER_IDX
from recsys_spark.errors import ContractViolation
from recsys_spark.models.histories import Histories
from recsys_spark.spark.dense_ids import with_dense_index
from recsys_spark.stages.features.examples import make_examples, shuffle_timeless
from recsys_spark.storage import contract as contracts

EXAMPLE, POSITION, SHARD = "example", "position", "shard"
_TABLE = "examples"
BYTES_A_GROUP = 64 * 2**20
"""Of a row group, at most. Who reads it holds it whole, and Parquet's writer cuts what grows to twice as much."""


def example_count(max_examples_per_user: int, earlier: bool) -> Column:
    """Examples a user of the `histories` table gives: their newest targets, as far as something stands before them (`earlier`: at an
    earlier moment)."""
    first: Column = F.lit(1)
    if earlier:
        of_first_moment = F.size(F.filter(EVENT_TS, lambda time: time == F.element_at(EVENT_TS, 1)))
        timeless = F.try_element_at(F.col(EVENT_TS), F.lit(-1)) == 0
        first = F.when(~timeless, of_first_moment).otherwise(first)
    return F.greatest(F.least(F.size(ITEM_IDX) - first, F.lit(max_examples_per_user)), F.lit(0))


def groups_of_a_shard(total: int, *, shards: int, length: int) -> int:
    """How many equal row groups a shard makes, so that `total` examples with windows of `length` items keep each within `BYTES_A_GROUP`."""
    # place, item, weight and the lengths of two windows; an item of a window has 4 bytes, and 1 for when it was
    most = max(BYTES_A_GROUP // (24 + 5 * length), 1)
    return max(math.ceil(total / (shards * most)), 1)


def place_examples(
    histories: DataFrame,
    *,
    total: int,
    shards: int,
    size: int,
    max_examples_per_user: int,
    earlier: bool,
    seed: int,
) -> DataFrame:
    """(user_idx, position, example, shard) of every example, its place drawn from (seed, user, position).

    `total` is their number. To give each of `shards` `size` examples the first ones are repeated at the end, in places of their own.
    """
    count = example_count(max_examples_per_user, earlier)
    positions = F.sequence(F.size(ITEM_IDX) - count, F.size(ITEM_IDX) - 1)
    small = histories.where(count > 0).select(USER_IDX, F.explode(positions).alias(POSITION))
    drawn = small.withColumn("draw", F.xxhash64(F.lit(seed), USER_IDX, POSITION))
    placed = with_dense_index(drawn, ["draw", USER_IDX, POSITION], EXAMPLE, 0)
    places = F.sequence(F.col(EXAMPLE), F.lit(size * shards - 1).cast("bigint"), F.lit(total).cast("bigint"))
    repeated = placed.select(USER_IDX, POSITION, F.explode(places).alias(EXAMPLE))
    return repeated.withColumn(SHARD, F.floor(F.col(EXAMPLE) / F.lit(size)).cast("int"))


def build_examples(
    placed: DataFrame, histories: DataFrame, *, shards: int, length: int, earlier: bool, seed: int
) -> DataFrame:
    """The `examples` table. A partition holds whole shards, one after the other, each in the order of its places."""
    wanted = placed.groupBy(USER_IDX, SHARD).agg(F.collect_list(F.struct(EXAMPLE, POSITION)).alias("wanted"))
    wanted = wanted.select(
        USER_IDX,
        SHARD,
        F.col(f"wanted.{EXAMPLE}").alias(EXAMPLE),
        F.col(f"wanted.{POSITION}").alias(POSITION),
    )
    joined = wanted.join(histories, USER_IDX).repartition(shards, SHARD).sortWithinPartitions(SHARD, USER_IDX)

    def build(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for shard in _by_shard(batches):
            yield from _shard_examples(shard, length, earlier, seed)

    return joined.mapInArrow(build, contracts.load(_TABLE).spark_ddl())


def check_row_groups(folder: Path, row_groups: int, rows: int) -> None:
    """`ContractViolation` unless `folder` holds `row_groups` files of one row group with `rows` rows each: unequal shards make ranks wait for ever."""
    sizes = []
    for path in sorted(folder.glob("*.parquet")):
        metadata = pq.ParquetFile(path).metadata
        sizes.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    sizes = [groups for groups in sizes if groups]  # Spark leaves a file without rows where a task had none
    if sizes != [[rows]] * row_groups:
        raise ContractViolation(
            f"{folder}: row groups of {sizes} rows by file, where {row_groups} files of one row group of {rows} rows should be; "
            "this is a fault of the program"
        )


def _by_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Rows of one shard at a time, out of batches sorted by shard."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        column = batch.column(batch.schema.names.index(SHARD)).to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(column)) + 1), batch.num_rows]
        for start, stop in pairwise(edges):
            part = batch.slice(start, stop - start)
            if waiting and stop > start and _shard_of(waiting[-1]) != _shard_of(part):
                yield pa.Table.from_batches(waiting)
                waiting = []
            if stop > start:
                waiting.append(part)
    if waiting:
        yield pa.Table.from_batches(waiting)


def _shard_of(batch: pa.RecordBatch) -> int:
    return int(batch.column(batch.schema.names.index(SHARD))[0].as_py())


def _shard_examples(shard: pa.Table, length: int, earlier: bool, seed: int) -> Iterator[pa.RecordBatch]:
    shard = shard.combine_chunks()
    wanted, positions = shard.column(EXAMPLE).chunk(0), shard.column(POSITION).chunk(0)
    rows = np.repeat(np.arange(shard.num_rows), np.diff(np.asarray(wanted.offsets)))
    places = np.asarray(wanted.flatten())
    order = np.argsort(places)
    places, rows, positions = (
        places[order],
        rows[order],
        np.asarray(positions.flatten(), dtype=np.int64)[order],
    )
    histories = shuffle_timeless(Histories.from_arrow(shard), shard.column(USER_IDX).to_numpy(), seed)
    schema = contracts.load(_TABLE).arrow_schema()
    done = 0
    for part in make_examples(histories, rows, positions, length, earlier=earlier):
        taken = places[done : done + len(part.items)]
        done += len(taken)
        columns = [
            pa.array(taken),
            pa.array(part.items),
            pa.array(part.weights),
            to_bytes(part.history.astype("<i4")),
            to_bytes(part.recency.astype(np.uint8)),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def to_bytes(matrix: np.ndarray) -> pa.Array:
    """Each row's bytes. A reader copies them; of lists it would have to count the lengths, element by element."""
    width = matrix.shape[1] * matrix.itemsize
    offsets = np.arange(0, matrix.nbytes + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(matrix), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix))]
    )
