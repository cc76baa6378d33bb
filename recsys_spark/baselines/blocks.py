"""The pairs as CSR blocks on disk, by user and by item, written by one Spark job and shared by the fits.

Row r of a side stands in block r % n at position r // n, so a block needs no table of offsets and is even whatever the ids' order.
Everything is an `.npy` file that tasks map into memory; the driver holds nothing of a user's.

Shapes:  n blocks · R rows of a block · T entries of a block · F columns of a sharded array
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import ITEM_IDX, USER_IDX, WEIGHT
from recsys_spark.item_models.ragged import ranges

USERS = "users"
ITEMS = "items"
_PARTS = ("indptr", "indices", "weights")
_WRITTEN = "side string, block int, rows bigint, pairs bigint"


@dataclass(frozen=True)
class Csr:
    """Some rows of a side: indptr int64 [R+1] · indices int64 [T], ascending in a row, of the other side · weights float32 [T]."""

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
        return Csr(*(np.load(_path(self.folder, side, block, part), mmap_mode="r") for part in _PARTS))

    def side(self, side: str) -> Side:
        """All rows of `side`, memory-mapped."""
        return Side([self.block(side, block) for block in range(self.blocks)])

    def item_degrees(self) -> np.ndarray:
        """int64 [I]: pairs of every item."""
        return self.side(ITEMS).degrees(np.arange(self.rows[ITEMS]))


class Side:
    """All rows of a side, in their blocks; open for as long as a task lasts."""

    def __init__(self, blocks: list[Csr]):
        self.blocks = blocks

    def degrees(self, rows: np.ndarray) -> np.ndarray:
        """int64 [R]: pairs of the rows `rows`."""
        degrees = np.empty(len(rows), np.int64)
        for block, at, local in _owners(rows, len(self.blocks)):
            indptr = self.blocks[block].indptr
            degrees[at] = indptr[local + 1] - indptr[local]
        return degrees

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """CSR (indptr, indices) of the rows `rows` (int [R], any order), copied, without weights."""
        lengths = self.degrees(rows)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        indices = np.empty(indptr[-1], np.int64)
        for block, at, local in _owners(rows, len(self.blocks)):
            csr = self.blocks[block]
            indices[ranges(indptr[at], lengths[at])] = csr.indices[ranges(csr.indptr[local], lengths[at])]
        return indptr, indices


class Shards:
    """An array of many rows in n files, row r in file r % n at r // n. Indexing by an array of rows gathers them."""

    def __init__(self, paths: list[Path]):
        self.parts = [np.load(path, mmap_mode="r") for path in paths]
        self.shape = (sum(len(part) for part in self.parts), self.parts[0].shape[1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """float32 [len(rows), F]."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for block, at, local in _owners(rows, len(self.parts)):
            found[at] = self.parts[block][local]
        return found


def write_pairs(folds: DataFrame, folder: Path, *, blocks: int, n_users: int, n_items: int) -> Pairs:
    """Write (user_idx, item_idx, weight) rows, each pair once, as `blocks` blocks by user and as many by item. One Spark job."""
    folder.mkdir(parents=True)
    rows = {USERS: n_users, ITEMS: n_items}
    user, item = F.col(USER_IDX), F.col(ITEM_IDX).cast("bigint")
    both = _side(folds, USERS, user, item, blocks).unionAll(_side(folds, ITEMS, item, user, blocks))
    write = partial(_write_block, folder=folder, blocks=blocks, rows=rows)
    written = both.groupBy("side", "block").applyInArrow(write, _WRITTEN).collect()
    full = {(group["side"], group["block"]) for group in written}
    for side, block in product(rows, range(blocks)):
        if (side, block) not in full:
            _save_empty(folder, side, block, _height(rows[side], block, blocks))
    active = {side: sum(w["rows"] for w in written if w["side"] == side) for side in rows}
    return Pairs(folder, blocks, rows, active, sum(w["pairs"] for w in written if w["side"] == USERS))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an `.npy` file by one rename, so that a task that is tried again, or twice at a time, leaves a whole one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(temporary, path)


def _side(folds: DataFrame, side: str, row: Column, column: Column, blocks: int) -> DataFrame:
    block = (row % blocks).cast("int").alias("block")
    return folds.select(F.lit(side).alias("side"), block, row.alias("row"), column.alias("column"), WEIGHT)


def _write_block(group: pa.Table, *, folder: Path, blocks: int, rows: dict[str, int]) -> pa.Table:
    side, block = group["side"][0].as_py(), group["block"][0].as_py()
    row, column = group["row"].to_numpy() // blocks, group["column"].to_numpy()
    order = np.lexsort((column, row))
    lengths = np.bincount(row, minlength=_height(rows[side], block, blocks))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    _save_csr(folder, side, block, Csr(indptr, column[order], group[WEIGHT].to_numpy()[order]))
    counts = {"side": [side], "block": [block], "rows": [np.count_nonzero(lengths)], "pairs": [len(row)]}
    schema = pa.schema(
        [("side", pa.string()), ("block", pa.int32()), ("rows", pa.int64()), ("pairs", pa.int64())]
    )
    return pa.table(counts, schema=schema)


def _save_csr(folder: Path, side: str, block: int, csr: Csr) -> None:
    for part in _PARTS:
        save_array(_path(folder, side, block, part), getattr(csr, part))


def _save_empty(folder: Path, side: str, block: int, height: int) -> None:
    _save_csr(
        folder,
        side,
        block,
        Csr(np.zeros(height + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)),
    )


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
