"""Item-item ridge regression over Spark: predicts an item from the items most similar to it.

Each task takes a range of items. For an item it reads the K most similar others (item_knn.py), adds up their Gram
matrix and solves one system of size K. The table of the tasks, by candidate, is then transposed to be by history item.
Sums run over users in ascending order, so the table does not depend on the number of tasks. The work is that of
item_knn, K pairs of each item, and I K^3 / 3 for the systems. A task needs some 50 I bytes, K^2 numbers, and WINDOW
entries.

EASE (Steck, WWW 2019) solves for all items at once, I^3. To regress an item on its nearest neighbours alone is the idea
of fsSLIM (Ning and Karypis, ICDM 2011). Here ridge takes the place of the elastic net, users are weighted by their
degree, and weights have either sign.

Shapes:  I items, counting the padding item 0 · K neighbours of an item · n neighbours of one item
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from pyspark import SparkContext
from scipy.linalg import cho_factor, cho_solve

from recsys_spark.jit import compiled
from recsys_spark.models.item_knn import ItemRidgeModel
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.item_knn import ItemSimilarity, compare_items, user_weights
from recsys_spark.stages.baselines.neighbour_table import Chunk, make_table
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, Pairs

log = logging.getLogger(__name__)

NEAREST = ItemSimilarity(user_power=0.5, source_power=0.5, target_power=0.5, similarity_power=1.0, shrinkage=0.0)
"""An item is regressed on the items of the largest cosine when every user counts the same."""
WINDOW = 1 << 20
"""Entries of the neighbours' rows that a task sorts at a time, unless one user has more: 8 MB."""
_PLACES = 1 << 16
"""More than the number of neighbours: an entry is user * _PLACES + place of the item among them."""


@dataclass(frozen=True)
class Ridge:
    """With x_ui 1 where user u has item i, and degrees d, the weights w_j of the neighbours j of i minimise

        sum over users u of d_u^(-2 user_power) (x_ui - sum over j of w_j x_uj)^2
        + regularization * sum over j of w_j^2.

    The table holds w_j d_i^-target_power.
    """

    user_power: float
    regularization: float
    target_power: float


def fit(context: FitContext, scratch: Path) -> tuple[ItemRidgeModel, dict[str, Any]]:
    """Fit the model of the registry entry `item_ridge`."""
    settings = context.settings.model_dump()
    neighbours = settings.pop("neighbours")
    model = fit_pairs(context.spark, context.pairs, scratch, neighbours=neighbours, ridge=Ridge(**settings))
    return model, {"ridge_weights": len(model.arrays["neighbours"])}


def fit_pairs(spark: SparkContext, pairs: Pairs, folder: Path, *, neighbours: int, ridge: Ridge) -> ItemRidgeModel:
    """Return the model that predicts each item from its `neighbours` (fewer than 65,536) most similar others.

    `folder` takes the table.
    """
    regress = partial(regress_items, pairs, ridge, neighbours)
    table = _transposed(make_table(spark, pairs, folder, regress), pairs.rows[ITEMS])
    log.info("item_ridge: %d weights of %d items", len(table["neighbours"]), pairs.active[ITEMS])
    return ItemRidgeModel(pairs.rows[ITEMS], {}, table)


def regress_items(pairs: Pairs, ridge: Ridge, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """One task: yield the regression weights of the items start:stop."""
    by_item, by_user = pairs.csr(ITEMS), pairs.csr(USERS)
    targets = np.maximum(pairs.degrees(ITEMS), 1.0) ** -ridge.target_power
    users = user_weights(len(targets), ridge.user_power)
    item = start
    for lengths, others, _ in compare_items(pairs, NEAREST, neighbours, start, stop):
        weights, first = np.empty(len(others), np.float32), 0
        for n in lengths:
            read = slice(first, first + n)
            if n:
                gram = weighted_gram(by_item, by_user, np.append(others[read], np.int32(item)), users, WINDOW)
                system = gram[:n, :n] + ridge.regularization * np.eye(n)
                factor = cho_factor(system, overwrite_a=True, check_finite=False)
                weights[read] = targets[item] * cho_solve(factor, gram[:n, n], check_finite=False)
            first += n
            item += 1
        yield lengths, others, weights


def _transposed(table: dict[str, np.ndarray], n_items: int) -> dict[str, np.ndarray]:
    """Return a table by candidate as a table by history item. Weights of zero are left out."""
    parts = (table[name] for name in ("similarities", "neighbours", "indptr"))
    by_source = sp.csr_matrix(tuple(parts), (n_items, n_items)).tocsc()
    by_source.eliminate_zeros()
    return {
        "indptr": by_source.indptr.astype(np.int64),
        "neighbours": by_source.indices.astype(np.int32, copy=False),
        "similarities": by_source.data,
    }


@compiled
def weighted_gram(by_item, by_user, items, weights, window):  # type: ignore[no-untyped-def]
    """Return float64 [n, n] whose upper triangle holds the weights of the users that two of `items` [n] share, summed.

    `weights` [I+1] is by a user's degree. About `window` entries are sorted at a time.
    """
    gram = np.zeros((len(items), len(items)))
    total, last_user = 0, 0
    for item in items:
        first, last = by_item.indptr[item], by_item.indptr[item + 1]
        total += last - first
        if last > first:
            last_user = max(last_user, by_item.indices[last - 1])
    windows = total // window + 1
    ends = by_item.indptr[items]
    for number in range(windows):
        limit = (last_user + 1) * (number + 1) // windows
        begins = ends.copy()
        for k in range(len(items)):
            rest = by_item.indices[begins[k] : by_item.indptr[items[k] + 1]]
            ends[k] = begins[k] + np.searchsorted(rest, limit)
        entries = np.empty((ends - begins).sum(), np.int64)
        filled = 0
        for k in range(len(items)):
            for at in range(begins[k], ends[k]):
                entries[filled] = np.int64(by_item.indices[at]) * _PLACES + k
                filled += 1
        entries.sort()
        _add_users(entries, by_user.indptr, weights, gram)
    return gram


@compiled
def _add_users(entries, indptr, weights, gram):  # type: ignore[no-untyped-def]
    """Add the users of the sorted entries to the pairs of places that they have."""
    first = 0
    while first < len(entries):
        user = entries[first] // _PLACES
        end = first + 1
        while end < len(entries) and entries[end] // _PLACES == user:
            end += 1
        weight = weights[indptr[user + 1] - indptr[user]]
        for x in range(first, end):
            row = gram[entries[x] % _PLACES]
            for y in range(x, end):
                row[entries[y] % _PLACES] += weight
        first = end
