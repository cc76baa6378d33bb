"""Item-item ridge regression over Spark: which of the items most like it tell best who has an item, told apart from what they only share.

Each task takes a range of items. For an item it finds the K most similar others (item_knn.py), adds up their Gram matrix from the rows of
the memory-mapped pairs and solves one system of size K; the tables of the tasks, by candidate, are then turned round to be by history item.
Sums run over users in ascending order, so the table is the same, bit for bit, for any number of blocks and tasks. The work is that of
item_knn, K pairs of each item, and I K^3 / 3 for the systems; the memory of a task some 50 I bytes, K^2 numbers, and WINDOW entries.

EASE (Steck, WWW 2019) solves for all items at once, I^3; that an item's regression reads its nearest neighbours alone is fsSLIM's idea (Ning and
Karypis, ICDM 2011), with ridge in the place of the elastic net, users weighed by their degree, and weights of either sign.

Shapes:  I items counting the padding item 0 · J items of a chunk · K neighbours of an item · S = K rounded up to whole LANES · N weights kept
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from pyspark import SparkContext

from recsys_spark.jit import compiled
from recsys_spark.models.item_knn import ItemRidgeModel
from recsys_spark.models.llvm import LANES
from recsys_spark.models.ridge_kernels import finish_long, start_long
from recsys_spark.stages.baselines import item_knn
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Pairs
from recsys_spark.stages.baselines.item_knn import Similarity
from recsys_spark.stages.baselines.neighbour_table import Chunk, make_table
from recsys_spark.stages.baselines.rows import row_of

log = logging.getLogger(__name__)

NEAREST = Similarity(user_power=0.5, source_power=0.5, target_power=0.5, similarity_power=1.0, shrinkage=0.0)
"""What is read for an item: the items of the largest cosine when every user counts as much as any other."""
WINDOW = 1 << 20
"""Entries of the neighbours' rows that a task sorts at a time, as far as users can be told apart: 8 MB."""
_PLACES = 1 << 16
"""More than there are neighbours: an entry is user * _PLACES + place of the item among them."""


@dataclass(frozen=True)
class Ridge:
    """With x_ui 1 where user u has item i, and degrees d, the weights w_j of the neighbours j of i are those of the least

        sum over users u of d_u^(-2 user_power) (x_ui - sum over j of w_j x_uj)^2 + regularization * sum over j of w_j^2,

    and what j then says of i is w_j d_i^-target_power.
    """

    user_power: float
    regularization: float
    target_power: float


def fit(spark: SparkContext, pairs: Pairs, folder: Path, *, neighbours: int, ridge: Ridge) -> ItemRidgeModel:
    """The model: each item told by its `neighbours` most similar others, fewer than 65,536. `folder` takes the arrays of the table."""
    regress = partial(regress_items, pairs, ridge, neighbours)
    table = turned(make_table(spark, pairs, ITEMS, folder, regress), pairs.rows[ITEMS])
    log.info("item_ridge: %d weights of %d items", len(table["neighbours"]), pairs.active[ITEMS])
    return ItemRidgeModel(pairs.rows[ITEMS], {}, table)


def regress_items(pairs: Pairs, ridge: Ridge, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """One task: what the neighbours of the items start:stop say of them."""
    sides = pairs.side(ITEMS), pairs.side(USERS)  # the loops hold addresses in their maps
    formula, scratch = _formula(ridge, pairs.degrees(ITEMS)), _scratch(neighbours)
    lo = start
    for lengths, found, _ in item_knn.compare_items(pairs, NEAREST, neighbours, start, stop):
        weights = np.empty(len(found), np.float32)
        _regress(sides[0].starts, sides[1].starts, lo, lengths, found, formula, scratch, weights)
        lo += len(lengths)
        yield lengths, found, weights


def turned(table: dict[str, np.ndarray], n_items: int) -> dict[str, np.ndarray]:
    """The table by history item, ascending by candidate, of one by candidate; weights of zero are left out."""
    parts = (table[name] for name in ("similarities", "neighbours", "indptr"))
    found = sp.csr_matrix(tuple(parts), (n_items, n_items)).tocsc()
    found.eliminate_zeros()
    return {
        "indptr": found.indptr.astype(np.int64),
        "neighbours": found.indices.astype(np.int32, copy=False),
        "similarities": found.data,
    }


class _Formula(NamedTuple):
    """`Ridge` for the degrees at hand: d_u^(-2 user_power) by d_u and d_i^-target_power by item, float64 [I]."""

    user: np.ndarray
    target: np.ndarray
    penalty: float


class _Scratch(NamedTuple):
    """A task's arrays: the Gram matrix of the neighbours and the item float64 [K + 1, K + 1], the system [S * S], its right side, its solution and
    as many ones [S]."""

    gram: np.ndarray
    system: np.ndarray
    side: np.ndarray
    solution: np.ndarray
    ones: np.ndarray


def _formula(ridge: Ridge, item_degrees: np.ndarray) -> _Formula:
    degrees = np.maximum(item_degrees, 1).astype(np.float64)
    return _Formula(
        item_knn.user_weights(len(degrees), ridge.user_power),
        degrees**-ridge.target_power,
        float(ridge.regularization),
    )


def _scratch(neighbours: int) -> _Scratch:
    size = -(-neighbours // LANES) * LANES
    vectors = np.empty(size, np.float32), np.empty(size, np.float32), np.ones(size, np.float32)
    return _Scratch(np.empty((neighbours + 1, neighbours + 1)), np.empty(size * size, np.float32), *vectors)


@compiled
def _regress(
    by_item: np.ndarray,
    by_user: np.ndarray,
    lo: int,
    lengths: np.ndarray,
    found: np.ndarray,
    formula: _Formula,
    scratch: _Scratch,
    weights: np.ndarray,
) -> None:
    """Set `weights` of the neighbours `found` of the items from `lo` on, as many as `lengths` [J] says of each."""
    at = 0
    for row in range(len(lengths)):
        item, n = lo + row, lengths[row]
        others = found[at : at + n]
        if n:
            _add_up(by_item, by_user, others, item, formula.user, scratch.gram, WINDOW)
            _solve(scratch, formula.penalty, weights[at : at + n])
        for k in range(at, at + n):
            weights[k] *= formula.target[item]
        at += n


@compiled
def _add_up(
    by_item: np.ndarray,
    by_user: np.ndarray,
    others: np.ndarray,
    item: int,
    user: np.ndarray,
    gram: np.ndarray,
    most: int,
) -> None:
    """Set the upper triangle of gram[:n + 1, :n + 1] to the weights of the users that each two of `others` [n] and `item`, the last, share.
    About `most` entries are sorted at a time."""
    n = len(others)
    read = np.append(others, np.int32(item))
    gram[: n + 1, : n + 1] = 0
    total, last = 0, 0
    for k in range(n + 1):
        users = row_of(by_item, read[k])
        total += len(users)
        if len(users):
            last = max(last, users[-1])
    windows = total // most + 1
    ends = np.zeros(n + 1, np.int64)
    for window in range(windows):
        limit = (last + 1) * (window + 1) // windows
        begins = ends.copy()
        size = 0
        for k in range(n + 1):
            users = row_of(by_item, read[k])
            ends[k] = begins[k] + np.searchsorted(users[begins[k] :], limit)
            size += ends[k] - begins[k]
        entries = np.empty(size, np.int64)
        filled = 0
        for k in range(n + 1):
            users = row_of(by_item, read[k])
            for x in range(begins[k], ends[k]):
                entries[filled] = np.int64(users[x]) * _PLACES + k
                filled += 1
        entries.sort()
        _add_users(entries, by_user, user, gram)


@compiled
def _add_users(entries: np.ndarray, by_user: np.ndarray, user: np.ndarray, gram: np.ndarray) -> None:
    """Add to `gram` what the users of the sorted `entries` have in common."""
    first = 0
    while first < len(entries):
        own = entries[first] // _PLACES
        end = first + 1
        while end < len(entries) and entries[end] // _PLACES == own:
            end += 1
        weight = user[len(row_of(by_user, own))]
        for x in range(first, end):
            row = gram[entries[x] % _PLACES]
            for y in range(x, end):
                row[entries[y] % _PLACES] += weight
        first = end


@compiled
def _solve(scratch: _Scratch, penalty: float, weights: np.ndarray) -> None:
    """Set `weights` [n] to the solution of (G + penalty I) w = b, divided by the penalty: the identity and a positive semidefinite matrix."""
    n, gram, system = len(weights), scratch.gram, scratch.system
    width = (n + LANES - 1) // LANES * LANES
    side, ones, solution = scratch.side[:width], scratch.ones[:width], scratch.solution[:width]
    side[:] = 0
    start_long(system[: width * width], width)
    for k in range(n):
        side[k] = gram[k, n] / penalty
        for x in range(k, n):
            system[k * width + x] += gram[k, x] / penalty
    if np.isnan(finish_long(system[: width * width], side, ones, solution)):
        _solve_in_doubles(gram, penalty, solution[:n])
    weights[:] = solution[:n]


@compiled
def _solve_in_doubles(gram: np.ndarray, penalty: float, solution: np.ndarray) -> None:
    """The same where float32 is too short for it."""
    n = len(solution)
    whole = np.empty((n, n))
    for k in range(n):
        for x in range(k, n):
            whole[k, x] = whole[x, k] = gram[k, x]
        whole[k, k] += penalty
    solution[:] = np.linalg.solve(whole, gram[:n, n].copy())
