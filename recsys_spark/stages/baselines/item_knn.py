"""Item-item cosine over Spark, exact: each task compares a range of items with all others, an item at a time (Gustavson's product).

A task adds up, over an item's users in ascending order, their rows of the memory-mapped pairs in one array of I sums, keeps the item's
neighbours and clears the sums it touched. The order of additions is that of the ids alone, so the table is the same, bit for bit, for any
number of blocks and tasks. The work is the sum over users of their number of items squared; the memory of a task some 50 I bytes and an output
buffer, whatever the heaviest user and item have. Nothing is capped.

Shapes:  I items counting the padding item 0 · J items of a range · N neighbours kept · K neighbours of an item at most
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyspark import SparkContext

from recsys_spark.jit import compiled
from recsys_spark.models.item_knn import NeighbourModel
from recsys_spark.models.largest import ROOM, ascending, largest
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Pairs
from recsys_spark.stages.baselines.neighbour_table import Chunk, make_table, room_for
from recsys_spark.stages.baselines.rows import row_of

log = logging.getLogger(__name__)

DENSE = 4
"""A row with more than a DENSE-th of all items is looked through from end to end."""


@dataclass(frozen=True)
class Similarity:
    """How alike the history item j and the candidate i are, with the n users U they have in common and degrees d:

        s[j, i] = n / (n + shrinkage) * (sum over U of d_u^(-2 user_power) * d_j^-source_power * d_i^-target_power)^similarity_power

    Plain cosine has user_power 0, source and target power 0.5, similarity_power 1 and no shrinkage (asymmetric cosine and powers:
    Aiolli, RecSys 2013). With norm_power, what is kept of this is divided by

        (sum over j of s[j, i]^2)^(norm_power / 2)

    as the mean of neighbours of Sarwar et al. (WWW 2001) divides by the sum of a candidate's similarities: one that is a little like everything
    comes back behind one that is much like few.
    """

    user_power: float
    source_power: float
    target_power: float
    similarity_power: float
    shrinkage: float
    norm_power: float = 0.0


def fit(spark: SparkContext, pairs: Pairs, folder: Path, *, neighbours: int, similarity: Similarity) -> NeighbourModel:
    """The model: of each item the `neighbours` most similar others, ties by item. `folder` takes the arrays of the table."""
    compare = partial(compare_items, pairs, similarity, neighbours)
    table = make_table(spark, pairs, ITEMS, folder, compare)
    if similarity.norm_power > 0:
        values = np.load(folder / "similarities.npy", mmap_mode="r+")
        _divide_by_norms(table["neighbours"], values, np.zeros(pairs.rows[ITEMS]), similarity.norm_power)
        values.flush()
    log.info("item_knn: %d neighbours of %d items", len(table["neighbours"]), pairs.active[ITEMS])
    return NeighbourModel(pairs.rows[ITEMS], {}, table)


def compare_items(pairs: Pairs, similarity: Similarity, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """One task: the neighbours of the items start:stop."""
    sides = pairs.side(ITEMS), pairs.side(USERS)  # the loops hold addresses in their maps
    formula, scratch = _formula(similarity, pairs.degrees(ITEMS)), _scratch(pairs.rows[ITEMS], neighbours)
    lengths = np.empty(len(scratch.neighbours), np.int32)
    for lo in range(start, stop, len(lengths)):
        n = min(len(lengths), stop - lo)
        found = _compare(sides[0].starts, sides[1].starts, lo, lengths[:n], formula, scratch)
        yield lengths[:n], scratch.neighbours.reshape(-1)[:found], scratch.similarities.reshape(-1)[:found]


class _Formula(NamedTuple):
    """`Similarity` for the degrees at hand: d_u^(-2 user_power) by d_u, d_j^-source_power and d_i^-target_power by item, float64 [I]."""

    user: np.ndarray
    source: np.ndarray
    target: np.ndarray
    power: float
    shrinkage: float


class _Scratch(NamedTuple):
    """A task's arrays: of an item with every other, the sum over U and n (both zero between items), who is touched and by what they
    are ordered; the keys of `largest`; the output [J, K], filled without gaps."""

    sums: np.ndarray
    common: np.ndarray
    touched: np.ndarray
    keys: np.ndarray
    best: np.ndarray
    spare: np.ndarray
    neighbours: np.ndarray
    similarities: np.ndarray


def user_weights(n_items: int, user_power: float) -> np.ndarray:
    """float64 [n_items + 1]: d^(-2 user_power) by a user's degree d, which is all items at most; above zero, whatever the power, as a sum above
    zero marks an item as touched."""
    by_degree = np.maximum(np.arange(n_items + 1.0), 1) ** (-2.0 * user_power)
    return np.maximum(by_degree, np.finfo(np.float64).tiny)


def _formula(similarity: Similarity, item_degrees: np.ndarray) -> _Formula:
    degrees = np.maximum(item_degrees, 1).astype(np.float64)
    return _Formula(
        user_weights(len(degrees), similarity.user_power),
        degrees**-similarity.source_power,
        degrees**-similarity.target_power,
        float(similarity.similarity_power),
        float(similarity.shrinkage),
    )


def _scratch(n_items: int, neighbours: int) -> _Scratch:
    height, k = room_for(n_items, neighbours)
    return _Scratch(
        np.zeros(n_items),
        np.zeros(n_items),
        np.empty(n_items + 1, np.int32),
        np.empty(n_items, np.float32),
        np.empty(ROOM * k, np.uint64),
        np.empty(k, np.int32),
        np.empty((height, k), np.int32),
        np.empty((height, k), np.float32),
    )


@compiled
def _compare(
    by_item: np.ndarray,
    by_user: np.ndarray,
    lo: int,
    lengths: np.ndarray,
    formula: _Formula,
    scratch: _Scratch,
) -> int:
    """The neighbours of the items from `lo` on into `lengths` [J] and the scratch's output; returns how many they are.

    Chosen by what differs within a row, (the sum over U * d_i^-target_power) * (n / (n + shrinkage))^(1 / similarity_power) in float32.
    """
    sums, common, touched, keys = scratch.sums, scratch.common, scratch.touched, scratch.keys
    ids, values = scratch.neighbours.reshape(-1), scratch.similarities.reshape(-1)
    k = len(scratch.spare)
    total = 0
    for row in range(len(lengths)):
        j = lo + row
        n = _overlap(by_item, by_user, j, formula.user, sums, touched)
        if formula.shrinkage > 0:
            _count(by_item, by_user, j, common)
        if DENSE * n > len(sums):  # then one pass over all items costs less than jumps to those touched
            n = len(sums)
            touched[:n] = np.arange(n)
        sums[j] = 0
        for at in range(n):
            i = touched[at]
            key = sums[i] * formula.target[i]
            if formula.shrinkage > 0:
                key *= (common[i] / (common[i] + formula.shrinkage)) ** (1 / formula.power)
            keys[at] = key
        found = largest(touched, keys, n, k, scratch.best)
        chosen = ids[total : total + found]
        ascending(scratch.best, found, len(sums), chosen, scratch.spare)
        for at in range(found):
            i = chosen[at]
            value = sums[i] * formula.source[j] * formula.target[i]
            if formula.power != 1:
                value **= formula.power
            if formula.shrinkage > 0:
                value *= common[i] / (common[i] + formula.shrinkage)
            values[total + at] = value
        for at in range(n):
            sums[touched[at]] = common[touched[at]] = 0
        lengths[row] = found
        total += found
    return total


@compiled
def _overlap(
    by_item: np.ndarray,
    by_user: np.ndarray,
    j: int,
    weights: np.ndarray,
    sums: np.ndarray,
    touched: np.ndarray,
) -> int:
    """Add to `sums` (zero, float64 [I]) the weights of the users that each item shares with j; returns how many of `touched` are."""
    n = 0
    for user in row_of(by_item, j):
        chosen = row_of(by_user, user)
        weight = weights[len(chosen)]
        for item in chosen:
            before = sums[item]
            touched[n] = item  # stays there when it is new
            n += before == 0
            sums[item] = before + weight
    return n


@compiled
def _divide_by_norms(candidates: np.ndarray, values: np.ndarray, norms: np.ndarray, power: float) -> None:
    """Divide each of `values` [N] by the norm, to `power`, of all those of its candidate; `norms` zero, float64 [I]. One order, so one result."""
    for at in range(len(values)):
        norms[candidates[at]] += np.float64(values[at]) ** 2
    for item in range(len(norms)):
        norms[item] = norms[item] ** (-0.5 * power) if norms[item] > 0 else 1.0
    for at in range(len(values)):
        values[at] *= norms[candidates[at]]


@compiled
def _count(by_item: np.ndarray, by_user: np.ndarray, j: int, common: np.ndarray) -> None:
    """Add to `common` (zero, float64 [I]) how many users each item shares with j."""
    for user in row_of(by_item, j):
        for item in row_of(by_user, user):
            common[item] += 1
