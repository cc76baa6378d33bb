"""Writes the training examples in a global random order, in row groups of equal size.

Only small rows are sorted and shuffled: each (user, position) gets its place in the table. Then each shard, which is
one or more consecutive row groups, fetches the histories of its users, and the wide examples are made where they are
written. A history is sent once to each shard, so the shards stay few even if there are many row groups.
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

from recsys_spark.columns import EVENT_TS, ITEM_IDX, PER_USER, USER_IDX
from recsys_spark.errors import ContractViolation
from recsys_spark.models.histories import Histories
from recsys_spark.spark.dense_ids import with_dense_index
from recsys_spark.stages.features.examples import make_examples, shuffle_timeless
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import tables

EXAMPLE, POSITION, SHARD = "example", "position", "shard"
_TABLE = "examples"
MAX_GROUP_BYTES = 64 * 2**20
"""A reader holds a whole row group in memory, and Parquet's writer would split a group of twice this size."""


def write_examples(
    histories: DataFrame,
    folder: Path,
    *,
    history_length: int,
    examples: str,
    max_examples_per_user: int,
    row_groups: int,
    strictly_before: bool,
    seed: int,
) -> dict[str, int]:
    """Write the table `examples` from the histories of one as_of; return its counts.

    Each file has one row group, and all have the same size. Their number is `row_groups`, or the smallest multiple that
    keeps a group within MAX_GROUP_BYTES. With `examples` = users, each user gives one example with the newest item as
    its target.
    """
    if examples == PER_USER:
        max_examples_per_user = 1
    count = example_count(max_examples_per_user, strictly_before)
    sums = histories.agg(
        F.sum(count.cast("bigint")).alias("examples"), F.count_if(F.size(ITEM_IDX) > 0).alias("users")
    ).first()
    total = int(sums["examples"] or 0)
    shards, per_shard = row_groups, groups_per_shard(total, shards=row_groups, length=history_length)
    row_groups = shards * per_shard
    size = math.ceil(total / row_groups)
    if total:
        placed = place_examples(histories, count, total=total, shards=shards, shard_size=size * per_shard, seed=seed)
        table = build_examples(
            placed, histories, shards=shards, length=history_length, strictly_before=strictly_before, seed=seed
        )
        tables.write(table, folder, _TABLE, max_rows_per_file=size, quick_to_read=True)
        check_row_groups(folder, row_groups, size)
    return {
        "examples": size * row_groups,
        "padded_examples": size * row_groups - total,
        "row_groups": row_groups,
        "users_with_history": int(sums["users"]),
    }


def example_count(max_examples_per_user: int, strictly_before: bool) -> Column:
    """Return the number of examples of a user of the table `histories`.

    The targets are the user's newest items. The first items are no targets, because their window would be empty.
    """
    n_without_window: Column = F.lit(1)
    if strictly_before:
        at_first_time = F.size(F.filter(EVENT_TS, lambda time: time == F.element_at(EVENT_TS, 1)))
        timeless = F.try_element_at(F.col(EVENT_TS), F.lit(-1)) == 0
        n_without_window = F.when(~timeless, at_first_time).otherwise(n_without_window)
    return F.greatest(F.least(F.size(ITEM_IDX) - n_without_window, F.lit(max_examples_per_user)), F.lit(0))


def groups_per_shard(total: int, *, shards: int, length: int) -> int:
    """Return the row groups of a shard that keep `total` examples with `length` items within MAX_GROUP_BYTES."""
    # 24 bytes: example, item, weight and the lengths of two windows; 5 bytes: an item of a window and its recency
    max_rows = max(MAX_GROUP_BYTES // (24 + 5 * length), 1)
    return max(math.ceil(total / (shards * max_rows)), 1)


def place_examples(
    histories: DataFrame, count: Column, *, total: int, shards: int, shard_size: int, seed: int
) -> DataFrame:
    """Return (user_idx, position, example, shard) of every example. A hash of (seed, user, position) gives the order.

    `count` is the number of examples of a user, `total` that of all users. The first examples are repeated at the end,
    so that each shard has `shard_size` examples.
    """
    positions = F.sequence(F.size(ITEM_IDX) - count, F.size(ITEM_IDX) - 1)
    pairs = histories.where(count > 0).select(USER_IDX, F.explode(positions).alias(POSITION))
    hashed = pairs.withColumn("hash", F.xxhash64(F.lit(seed), USER_IDX, POSITION))
    placed = with_dense_index(hashed, ["hash", USER_IDX, POSITION], EXAMPLE, 0)
    places = F.sequence(F.col(EXAMPLE), F.lit(shard_size * shards - 1).cast("bigint"), F.lit(total).cast("bigint"))
    repeated = placed.select(USER_IDX, POSITION, F.explode(places).alias(EXAMPLE))
    return repeated.withColumn(SHARD, F.floor(F.col(EXAMPLE) / F.lit(shard_size)).cast("int"))


def build_examples(
    placed: DataFrame, histories: DataFrame, *, shards: int, length: int, strictly_before: bool, seed: int
) -> DataFrame:
    """Return the table `examples`. A partition has whole shards, one after the other, each ordered by `example`."""
    by_user = placed.groupBy(USER_IDX, SHARD).agg(F.collect_list(F.struct(EXAMPLE, POSITION)).alias("targets"))
    targets = by_user.select(USER_IDX, SHARD, f"targets.{EXAMPLE}", f"targets.{POSITION}")
    joined = targets.join(histories, USER_IDX).repartition(shards, SHARD).sortWithinPartitions(SHARD, USER_IDX)

    def build(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for shard in _by_shard(batches):
            yield from _shard_examples(shard, length, strictly_before, seed)

    return joined.mapInArrow(build, contracts.load(_TABLE).spark_ddl())


def check_row_groups(folder: Path, row_groups: int, rows: int) -> None:
    """Raise `ContractViolation` unless `folder` has `row_groups` files with one row group of `rows` rows each.

    With unequal shards, one training worker would wait for another for ever.
    """
    sizes = []
    for path in sorted(folder.glob("*.parquet")):
        metadata = pq.ParquetFile(path).metadata
        sizes.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    sizes = [groups for groups in sizes if groups]  # a task without rows leaves a file without row groups
    if sizes != [[rows]] * row_groups:
        raise ContractViolation(
            f"{folder}: the files have row groups of {sizes} rows. Expected {row_groups} files with one row group of "
            f"{rows} rows. This is a bug in recsys_spark"
        )


def _by_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows of one shard at a time from batches that are sorted by shard."""
    parts: list[pa.RecordBatch] = []
    shard = -1
    for batch in batches:
        shards = batch.column(batch.schema.names.index(SHARD)).to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1), batch.num_rows]
        for start, stop in pairwise(edges):
            if stop == start:  # an empty batch
                continue
            if parts and shards[start] != shard:
                yield pa.Table.from_batches(parts)
                parts = []
            shard = shards[start]
            parts.append(batch.slice(start, stop - start))
    if parts:
        yield pa.Table.from_batches(parts)


def _shard_examples(shard: pa.Table, length: int, strictly_before: bool, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the table `examples` of one shard, ordered by `example`."""
    shard = shard.combine_chunks()
    lists = shard.column(EXAMPLE).chunk(0)
    places, positions = np.asarray(lists.flatten()), np.asarray(shard.column(POSITION).chunk(0).flatten())
    rows = np.repeat(np.arange(shard.num_rows), np.diff(np.asarray(lists.offsets)))
    order = np.argsort(places)
    places, rows, positions = places[order], rows[order], positions[order].astype(np.int64)
    histories = shuffle_timeless(Histories.from_arrow(shard), shard.column(USER_IDX).to_numpy(), seed)
    schema = contracts.load(_TABLE).arrow_schema()
    start = 0
    for chunk in make_examples(histories, rows, positions, length, strictly_before=strictly_before):
        stop = start + len(chunk.items)
        columns = [
            pa.array(places[start:stop]),
            pa.array(chunk.items),
            pa.array(chunk.weights),
            to_bytes(chunk.history.astype("<i4")),
            to_bytes(chunk.recency.astype(np.uint8)),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
        start = stop


def to_bytes(matrix: np.ndarray) -> pa.Array:
    """Return each row's bytes as a binary array. A reader copies them at once, while it decodes a list by element."""
    width = matrix.shape[1] * matrix.itemsize
    offsets = np.arange(0, matrix.nbytes + 1, width, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix))]
    return pa.Array.from_buffers(pa.binary(), len(matrix), buffers)
