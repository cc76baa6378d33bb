"""The user-item pairs of a pass as two CSR matrices on disk, one by user and one by item, for all fits on pairs.

One Spark job shuffles the pairs to ranges of rows and writes a part of each range. The driver joins the parts, and
tasks map the joined arrays into memory. So neither holds more than a part in memory.

Shapes:  R rows of a side · T pairs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import ITEM_IDX, USER_IDX, WEIGHT
from recsys_spark.stages.baselines.parts import join, load, part_path, whole_file

USERS = "users"
ITEMS = "items"
SIDES = (USERS, ITEMS)
PAIRS = 1 << 20
"""Pairs that a task packs at a time, and that a part should have: 12 MB."""
_PARCEL = 1 << 10
"""Maximum number of entries in a row of the shuffle. Spark passes 10,000 rows to Python at a time, which is 120 MB."""
ENTRY = np.dtype([("row", np.int32), ("column", np.int32), ("weight", np.float32)])
"""A pair on its way to the part `row` belongs to."""
_PACKED = "part int, entries binary"
_WRITTEN = "part int"


class Csr(NamedTuple):
    """The rows of one side. Columns are the rows of the other side, ascending within a row."""

    indptr: np.ndarray
    """int64 [R+1]"""
    indices: np.ndarray
    """int32 [T]"""
    weights: np.ndarray
    """float32 [T]"""


@dataclass(frozen=True)
class Pairs:
    """A set of (user, item, weight) on disk, and its sizes."""

    folder: Path
    parts: int
    """Number of parts that the pairs were written in, and the maximum number of tasks that read them."""
    rows: dict[str, int]
    """Number of ids of each side, with or without pairs."""
    active: dict[str, int]
    """Number of ids of each side with a pair."""
    count: int

    def csr(self, side: str) -> Csr:
        """Return all rows of `side`, memory-mapped."""
        return Csr(*(load(self.folder / f"{side}.{name}.npy") for name in Csr._fields))

    def degrees(self, side: str) -> np.ndarray:
        """Return int64 [R], the number of pairs of each row of `side`."""
        return np.diff(self.csr(side).indptr)


def parts_for(pairs: int, *, cores: int, maximum: int) -> int:
    """Return the number of parts: one for each core, more if a part would exceed PAIRS, but at most `maximum`."""
    return min(maximum, max(cores, -(-pairs // PAIRS)))


def write_pairs(folds: DataFrame, folder: Path, *, parts: int, n_users: int, n_items: int) -> Pairs:
    """Write the rows (user_idx, item_idx, weight), each pair once, in `parts` parts a side, and join them.

    The shuffle moves parcels of many entries, because rows of single pairs take several times as long.
    """
    folder.mkdir(parents=True)
    rows = {USERS: n_users, ITEMS: n_items}
    pairs = folds.select(F.col(USER_IDX).cast("int"), F.col(ITEM_IDX).cast("int"), WEIGHT)
    packed = pairs.mapInArrow(partial(pack, parts=parts, rows=rows), _PACKED)
    write = partial(_write_parcels, folder=folder, parts=parts, rows=rows)
    written = packed.groupBy("part").applyInArrow(write, _WRITTEN).collect()
    return join_pairs(folder, [row["part"] for row in written], parts, rows)


def pack(batches: Iterable[pa.RecordBatch], parts: int, rows: dict[str, int]) -> Iterator[pa.RecordBatch]:
    """Yield parcels (part, bytes of ENTRY) of the batches (user, item, weight).

    Part p holds range p of the users, part `parts` + p range p of the items. Ranges are equal in rows.
    """
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(b.num_rows for b in waiting) >= PAIRS:
            yield from _parcels(waiting, parts, rows)
            waiting = []
    if waiting:
        yield from _parcels(waiting, parts, rows)


def _parcels(batches: list[pa.RecordBatch], parts: int, rows: dict[str, int]) -> Iterator[pa.RecordBatch]:
    user, item, weight = (np.concatenate([b.column(c).to_numpy() for b in batches]) for c in range(3))
    for number, (row, column) in enumerate(((user, item), (item, user))):
        part = row.astype(np.int64) * parts // rows[SIDES[number]]
        entries = np.empty(len(row), ENTRY)
        entries["row"], entries["column"], entries["weight"] = row, column, weight
        entries = entries[np.argsort(part, kind="stable")]
        counts = np.bincount(part, minlength=parts)
        starts = np.cumsum(counts) - counts
        cuts = np.concatenate([np.arange(a, a + c, _PARCEL) for a, c in zip(starts, counts, strict=True)])
        offsets = np.append(cuts, len(row)).astype(np.int32) * ENTRY.itemsize
        parcels = pa.Array.from_buffers(
            pa.binary(), len(cuts), [None, pa.py_buffer(offsets), pa.py_buffer(entries.view(np.uint8))]
        )
        owners = np.repeat(np.arange(parts) + number * parts, -(-counts // _PARCEL)).astype(np.int32)
        yield pa.RecordBatch.from_arrays([pa.array(owners), parcels], ["part", "entries"])


def _write_parcels(parcels: pa.Table, *, folder: Path, parts: int, rows: dict[str, int]) -> pa.Table:
    part = parcels["part"][0].as_py()
    entries = np.concatenate([np.frombuffer(parcel.as_buffer(), ENTRY) for parcel in parcels["entries"]])
    write_part(folder, part, entries, parts, rows)
    return pa.table({"part": pa.array([part], pa.int32())})


def write_part(folder: Path, part: int, entries: np.ndarray, parts: int, rows: dict[str, int]) -> None:
    """Write the rows of one part from its entries, which come in any order."""
    side, start, stop = _range_of(part, parts, rows)
    order = np.argsort(entries["row"].astype(np.int64) << 32 | entries["column"])
    lengths = np.bincount(entries["row"] - start, minlength=stop - start)
    arrays = {"lengths": lengths, "indices": entries["column"][order], "weights": entries["weight"][order]}
    for name, array in arrays.items():
        with whole_file(part_path(folder, f"{side}.{name}", start)) as file:
            file.write(array)


def join_pairs(folder: Path, written: Iterable[int], parts: int, rows: dict[str, int]) -> Pairs:
    """Join the parts `written`. A part without pairs is not among them."""
    starts: dict[str, list[int]] = {side: [] for side in SIDES}
    lengths = {side: np.zeros(n, np.int64) for side, n in rows.items()}
    for part in sorted(written):
        side, start, stop = _range_of(part, parts, rows)
        starts[side].append(start)
        lengths[side][start:stop] = np.fromfile(part_path(folder, f"{side}.lengths", start), np.int64)
    for side in SIDES:
        np.save(folder / f"{side}.indptr.npy", np.concatenate([[0], np.cumsum(lengths[side])]))
        join(folder, f"{side}.indices", starts[side], np.int32)
        join(folder, f"{side}.weights", starts[side], np.float32)
    active = {side: int(np.count_nonzero(lengths[side])) for side in SIDES}
    return Pairs(folder, parts, rows, active, int(lengths[USERS].sum()))


def _range_of(part: int, parts: int, rows: dict[str, int]) -> tuple[str, int, int]:
    """Return the side of a part, and its rows start:stop."""
    number, place = divmod(part, parts)
    side = SIDES[number]
    start, stop = (-(-edge * rows[side] // parts) for edge in (place, place + 1))
    return side, start, stop
