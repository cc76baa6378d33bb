"""The pairs as CSR blocks on disk, by user and by item, written by one Spark job and shared by the fits.

Row r of a side stands in block r % n at position r // n, so a block needs no table of offsets and is even whatever the ids' order.
Everything is an `.npy` file that tasks map into memory; the driver holds nothing of a user's.

Shapes:  n blocks · R rows of a block · T entries of a block · F columns of a sharded array
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import ITEM_IDX, USER_IDX, WEIGHT

USERS = "users"
ITEMS = "items"
SIDES = (USERS, ITEMS)
PAIRS = 1 << 20
"""Pairs that a task packs at a time, and that a block should have: 12 MB."""
_PARCEL = 1 << 10
"""Entries of a row of the shuffle at most: Spark gives Python 10,000 rows at a time, which are 120 MB then."""
ENTRY = np.dtype([("row", np.int32), ("column", np.int32), ("weight", np.float32)])
"""A pair on its way to a block; `row` counts within the block."""
_PARTS = ("indptr", "indices", "weights")
_PACKED = "part int, entries binary"
_WRITTEN = "side string, block int, rows bigint, pairs bigint"


@dataclass(frozen=True)
class Csr:
    """Some rows of a side: indptr int64 [R+1] · indices int32 [T], ascending in a row, of the other side · weights float32 [T]."""

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Where the blocks of a set of (user, item, weight) pairs are, and how much there is of each side.

    `rows` counts ids given, with or without pairs; `active` those with a pair.
    """

    folder: Path
    blocks: int
    rows: dict[str, int]
    active: dict[str, int]
    pairs: int

    def block(self, side: str, block: int) -> Csr:
        """Rows block, block + n, … of `side`, memory-mapped."""
        return Csr(*(self._open(side, block, part) for part in _PARTS))

    def side(self, side: str) -> Side:
        """All rows of `side`, memory-mapped."""
        return Side([self.block(side, block) for block in range(self.blocks)])

    def degrees(self, side: str) -> np.ndarray:
        """int64 [rows]: pairs of every row of `side`."""
        degrees = np.empty(self.rows[side], np.int64)
        for block in range(self.blocks):
            degrees[block :: self.blocks] = np.diff(self._open(side, block, "indptr"))
        return degrees

    def _open(self, side: str, block: int, part: str) -> np.ndarray:
        return np.load(_path(self.folder, side, block, part), mmap_mode="r")


class Side:
    """All rows of a side, in their blocks; open for as long as a task lasts.

    `starts` int64 [3, n] are the addresses of the blocks' indptr, indices and weights, by which compiled loops find a row of any block
    (`rows.row_of`). They hold as long as this object lives.
    """

    def __init__(self, blocks: list[Csr]):
        self.blocks = blocks
        self.starts = np.array([[getattr(b, part).ctypes.data for b in blocks] for part in _PARTS], np.int64)


class Shards:
    """An array of many rows in n files, row r in file r % n at r // n. Indexing by an array of rows gathers them.

    `starts` int64 [n] are the files' addresses, for compiled loops (`rows.vector_of`); they hold as long as this object lives.
    """

    def __init__(self, paths: list[Path]):
        self.parts = [np.load(path, mmap_mode="r") for path in paths]
        self.shape = (sum(len(part) for part in self.parts), self.parts[0].shape[1])
        self.starts = np.array([part.ctypes.data for part in self.parts], np.int64)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """float32 [len(rows), F]."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for block, at, local in _owners(rows, len(self.parts)):
            found[at] = self.parts[block][local]
        return found


def blocks_for(pairs: int, *, cores: int, most: int) -> int:
    """One block for each core, more where one would have more than PAIRS pairs, `most` at most."""
    return min(most, max(cores, -(-pairs // PAIRS)))


def write_pairs(folds: DataFrame, folder: Path, *, blocks: int, n_users: int, n_items: int) -> Pairs:
    """Write (user_idx, item_idx, weight) rows, each pair once, as `blocks` blocks by user and as many by item. One Spark job.

    What is shuffled are parcels of many entries, not rows: Spark's own work is to read the pairs once.
    """
    folder.mkdir(parents=True)
    rows = {USERS: n_users, ITEMS: n_items}
    pairs = folds.select(F.col(USER_IDX).cast("int"), F.col(ITEM_IDX).cast("int"), WEIGHT)
    packed = pairs.mapInArrow(partial(pack, blocks=blocks), _PACKED)
    write = partial(_write_part, folder=folder, blocks=blocks, rows=rows)
    written = packed.groupBy("part").applyInArrow(write, _WRITTEN).collect()
    full = {(group["side"], group["block"]) for group in written}
    for side, block in product(SIDES, range(blocks)):
        if (side, block) not in full:
            write_block(folder, side, block, np.empty(0, ENTRY), _height(rows[side], block, blocks))
    active = {side: sum(w["rows"] for w in written if w["side"] == side) for side in SIDES}
    return Pairs(folder, blocks, rows, active, sum(w["pairs"] for w in written if w["side"] == USERS))


def pack(batches: Iterator[pa.RecordBatch], blocks: int) -> Iterator[pa.RecordBatch]:
    """Parcels (part, bytes of ENTRY) of the batches (user, item, weight): part b is block b of the users, n + b of the items."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(b.num_rows for b in waiting) >= PAIRS:
            yield from _parcels(waiting, blocks)
            waiting = []
    if waiting:
        yield from _parcels(waiting, blocks)


def _parcels(batches: list[pa.RecordBatch], blocks: int) -> Iterator[pa.RecordBatch]:
    user, item, weight = (np.concatenate([b.column(c).to_numpy() for b in batches]) for c in range(3))
    for side, row, column in ((0, user, item), (1, item, user)):
        block = row % blocks
        entries = np.empty(len(row), ENTRY)
        entries["row"], entries["column"], entries["weight"] = row // blocks, column, weight
        entries = entries[np.argsort(block, kind="stable")]
        counts = np.bincount(block, minlength=blocks)
        starts = np.cumsum(counts) - counts
        cuts = np.concatenate([np.arange(a, a + c, _PARCEL) for a, c in zip(starts, counts)])
        offsets = np.append(cuts, len(row)).astype(np.int32) * ENTRY.itemsize
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(entries.view(np.uint8))]
        part = np.repeat(np.arange(blocks) + side * blocks, -(-counts // _PARCEL)).astype(np.int32)
        parcels = pa.Array.from_buffers(pa.binary(), len(cuts), buffers)
        yield pa.RecordBatch.from_arrays([pa.array(part), parcels], ["part", "entries"])


def _write_part(parcels: pa.Table, *, folder: Path, blocks: int, rows: dict[str, int]) -> pa.Table:
    number, block = divmod(parcels["part"][0].as_py(), blocks)
    side = SIDES[number]
    entries = np.concatenate([np.frombuffer(parcel.as_buffer(), ENTRY) for parcel in parcels["entries"]])
    active = write_block(folder, side, block, entries, _height(rows[side], block, blocks))
    counts = {"side": [side], "block": [block], "rows": [active], "pairs": [len(entries)]}
    schema = pa.schema([("side", pa.string()), ("block", pa.int32()), ("rows", pa.int64()), ("pairs", pa.int64())])
    return pa.table(counts, schema=schema)


def write_block(folder: Path, side: str, block: int, entries: np.ndarray, height: int) -> int:
    """Write one block of `height` rows from its entries in any order; returns how many rows have one."""
    key = entries["row"].astype(np.int64) << 32 | entries["column"]
    order = np.argsort(key)
    lengths = np.bincount(entries["row"], minlength=height)
    csr = Csr(np.concatenate([[0], np.cumsum(lengths)]), entries["column"][order], entries["weight"][order])
    for part in _PARTS:
        save_array(_path(folder, side, block, part), getattr(csr, part))
    return int(np.count_nonzero(lengths))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an `.npy` file, whole or not at all."""
    with whole_file(path) as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name by one rename, so that a task that is tried again, or twice at a time, leaves a whole one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "wb") as file:
        yield file
    os.replace(temporary, path)


def write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The head of an `.npy` file, whose rows are to follow."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _path(folder: Path, side: str, block: int, part: str) -> Path:
    return folder / f"{side}-{block}.{part}.npy"


def _height(rows: int, block: int, blocks: int) -> int:
    return len(range(block, rows, blocks))


def _owners(rows: np.ndarray, blocks: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(block, positions in `rows` of the rows it holds, where it holds them)."""
    owner = rows % blocks
    for block in range(blocks):
        at = np.flatnonzero(owner == block)
        if len(at):
            yield block, at, rows[at] // blocks
