"""A table of neighbours over Spark: each task finds the neighbours of a range of items and writes them, and the ranges are joined in their order.

Shapes:  I items counting the padding item 0 · J items of a chunk · N neighbours kept · K neighbours of an item at most
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from pyspark import SparkContext

from recsys_spark.stages.baselines.blocks import Pairs, blocks_for, save_array, whole_file, write_header

OUTPUT = 1 << 21
"""Neighbours that a task holds before it writes them to its files: 16 MB."""
_TYPES = {"neighbours": np.dtype(np.int32), "similarities": np.dtype(np.float32)}
_LENGTHS = "lengths"
_CHUNK = 1 << 22

Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Neighbours of consecutive items: how many of each int32 [J], who int32 and how alike float32, item after item."""


def make_table(
    spark: SparkContext,
    pairs: Pairs,
    side: str,
    folder: Path,
    compare: Callable[[int, int], Iterator[Chunk]],
) -> dict[str, np.ndarray]:
    """The arrays of a `NeighbourModel` whose items are the rows of `side`; `folder` takes them.

    `compare(start, stop)` is what a task does: the neighbours of the items start:stop, chunk by chunk, ascending for each item.
    """
    folder.mkdir(parents=True)
    # a Python task costs a tenth of a second before it does anything: few of them for few pairs
    tasks = blocks_for(pairs.pairs, cores=spark.defaultParallelism, most=pairs.blocks)
    ranges = even_ranges(pairs.degrees(side), tasks)
    kept = spark.parallelize(ranges, len(ranges)).map(partial(_write, folder, compare)).collect()
    return _join(folder, [start for start, _ in ranges], sum(kept))


def even_ranges(degrees: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Consecutive (start, stop) of all items, `count` at most, of about the same number of pairs."""
    ends = np.cumsum(degrees)
    inner = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count)
    edges = np.unique(np.concatenate([[0], inner, [len(ends)]])).tolist()
    return list(pairwise(edges))


def room_for(n_items: int, neighbours: int) -> tuple[int, int]:
    """(J, K): how many items a task compares before it writes, and the most neighbours of one of them."""
    k = min(neighbours, n_items)
    return max(1, OUTPUT // k), k


def _write(folder: Path, compare: Callable[[int, int], Iterator[Chunk]], items: tuple[int, int]) -> int:
    """One task; returns how many neighbours its items have."""
    start, stop = items
    lengths = []
    with (
        whole_file(_path(folder, "neighbours", start)) as ids,
        whole_file(_path(folder, "similarities", start)) as values,
    ):
        for found, neighbours, similarities in compare(start, stop):
            lengths.append(found.copy())  # the chunk's arrays may be filled anew
            ids.write(neighbours)
            values.write(similarities)
    save_array(_path(folder, _LENGTHS, start), np.concatenate(lengths))
    return sum(int(found.sum()) for found in lengths)


def _join(folder: Path, starts: list[int], total: int) -> dict[str, np.ndarray]:
    """The ranges' rows one after the other, file after file."""
    lengths = np.concatenate([np.load(_path(folder, _LENGTHS, start)) for start in starts])
    arrays = {"indptr": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])}
    for part, dtype in _TYPES.items():
        path = folder / f"{part}.npy"
        with open(path, "wb") as whole:
            write_header(whole, dtype, (total,))
            for start in starts:
                with open(_path(folder, part, start), "rb") as file:
                    shutil.copyfileobj(file, whole, _CHUNK)
                _path(folder, part, start).unlink()
        arrays[part] = np.load(path, mmap_mode="r")
    return arrays


def _path(folder: Path, part: str, start: int) -> Path:
    return folder / f"{part}-{start}"
