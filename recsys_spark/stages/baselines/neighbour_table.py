"""Computes tables of neighbours with Spark: each task compares a range of items with all, and the driver joins them.

The comparison is Gustavson's sparse product, an item at a time. It adds up the rows of the columns (users or terms)
that an item has, in ascending order, in one array of I sums. So the table does not depend on the number of tasks. The
work is the sum over columns of their squared number of items. A task needs some 50 I bytes and its output, however many
entries the longest row has.

Shapes:  I items, counting the padding item 0 · J items of a chunk · K maximum number of neighbours of an item
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyspark import SparkContext

from recsys_spark.jit import compiled
from recsys_spark.models.heap import item_of, largest
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, Pairs
from recsys_spark.stages.baselines.parts import even_ranges, join, part_path, run_tasks, whole_file

OUTPUT = 1 << 21
"""Neighbours that a task holds before it writes them: 16 MiB."""

Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The neighbours of J consecutive items: their numbers int32 [J], then items int32, ascending for each item, and
similarities float32, item after item."""


class Formula(NamedTuple):
    """The similarity of the items j and i with the columns C in common and n of them:

        n / (n + shrinkage) * (source_j target_i * sum over c in C of column[d_c] x_jc x_ic)^power

    d_c is the number of items of a column. x are the weights of the entries if `weighted`, else 1.
    """

    column: np.ndarray
    """float64 [I+1], above zero"""
    source: np.ndarray
    """float64 [I]"""
    target: np.ndarray
    """float64 [I]"""
    power: float = 1.0
    shrinkage: float = 0.0
    weighted: bool = False


class _Scratch(NamedTuple):
    """Arrays of a task, for the comparison of an item with all others: sums and the number of common columns (both zero
    between items), the items touched and their order, and the keys of the largest."""

    sums: np.ndarray
    common: np.ndarray
    touched: np.ndarray
    order: np.ndarray
    keys: np.ndarray


def make_table(
    spark: SparkContext, pairs: Pairs, folder: Path, compare: Callable[[int, int], Iterator[Chunk]]
) -> dict[str, np.ndarray]:
    """Return the arrays of an `ItemTableModel`, memory-mapped from `folder`.

    `compare(start, stop)` is the work of a task: it yields the neighbours of the items start:stop, chunk by chunk.
    """
    folder.mkdir(parents=True)
    ranges = even_ranges(pairs.degrees(ITEMS), pairs.parts)
    run_tasks(spark, ranges, partial(_write, folder, compare))
    starts = [start for start, _ in ranges]
    lengths = join(folder, "lengths", starts, np.int32)
    return {
        "indptr": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        "neighbours": join(folder, "neighbours", starts, np.int32),
        "similarities": join(folder, "similarities", starts, np.float32),
    }


def _write(folder: Path, compare: Callable[[int, int], Iterator[Chunk]], items: tuple[int, int]) -> None:
    paths = [part_path(folder, name, items[0]) for name in ("lengths", "neighbours", "similarities")]
    with whole_file(paths[0]) as lengths, whole_file(paths[1]) as neighbours, whole_file(paths[2]) as similarities:
        for chunk in compare(*items):
            for file, array in zip((lengths, neighbours, similarities), chunk, strict=True):
                file.write(array)


def nearest_items(pairs: Pairs, formula: Formula, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """Yield the `neighbours` most similar others of the items start:stop. Of equal ones the lower items are kept."""
    by_item, by_column, n_items = pairs.csr(ITEMS), pairs.csr(USERS), pairs.rows[ITEMS]
    k = min(neighbours, n_items)
    scratch = _Scratch(
        np.zeros(n_items),
        np.zeros(n_items),
        np.empty(n_items + 1, np.int32),
        np.empty(n_items, np.float32),
        np.empty(k, np.uint64),
    )
    step = max(1, OUTPUT // k)
    items, similarities = np.empty(step * k, np.int32), np.empty(step * k, np.float32)
    for lo in range(start, stop, step):
        lengths = np.empty(min(step, stop - lo), np.int32)
        total = _compare(by_item, by_column, formula, lo, scratch, lengths, items, similarities)
        yield lengths, items[:total], similarities[:total]


@compiled
def _compare(by_item, by_column, formula, lo, scratch, lengths, neighbours, similarities):  # type: ignore[no-untyped-def]
    """Fill lengths [J] for the items from `lo` on, and the other two without gaps. Returns the number of neighbours.

    Neighbours are chosen by the factors that differ within a row, in float32.
    """
    sums, common, touched, order, keys = scratch
    total = 0
    for row in range(len(lengths)):
        j = lo + row
        n = _add_up(by_item, by_column, formula, j, sums, common, touched)
        sums[j] = 0
        for at in range(n):
            i = touched[at]
            key = sums[i] * formula.target[i]
            if formula.shrinkage > 0:
                key *= (common[i] / (common[i] + formula.shrinkage)) ** (1 / formula.power)
            order[at] = key
        count = largest(touched, order, n, len(keys), keys)
        chosen = neighbours[total : total + count]
        for at in range(count):
            chosen[at] = item_of(keys[at])
        chosen.sort()
        for at in range(count):
            i = chosen[at]
            value = sums[i] * formula.source[j] * formula.target[i]
            if formula.power != 1:
                value **= formula.power
            if formula.shrinkage > 0:
                value *= common[i] / (common[i] + formula.shrinkage)
            similarities[total + at] = value
        for at in range(n):
            sums[touched[at]] = common[touched[at]] = 0
        lengths[row] = count
        total += count
    return total


@compiled
def _add_up(by_item, by_column, formula, j, sums, common, touched):  # type: ignore[no-untyped-def]
    """Add to sums and common [I] the columns that each item shares with j. Returns the number of items touched."""
    n = 0
    for at in range(by_item.indptr[j], by_item.indptr[j + 1]):
        column = by_item.indices[at]
        first, last = by_column.indptr[column], by_column.indptr[column + 1]
        value = formula.column[last - first]
        if formula.weighted:
            value *= by_item.weights[at]
        for entry in range(first, last):
            item = by_column.indices[entry]
            before = sums[item]
            touched[n] = item  # overwritten by the next one if it is not new
            n += before == 0
            sums[item] = before + (value * by_column.weights[entry] if formula.weighted else value)
            if formula.shrinkage > 0:
                common[item] += 1
    return n
