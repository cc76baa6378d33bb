"""Diverse lists: maximal marginal relevance (MMR), and a maximum number of items of one category. Pure numpy and numba.

The score stage diversifies the fused list last, after the ranker. MMR (Carbonell and Goldstein, SIGIR 1998) fills a
list place by place with the candidate of the largest

    lambda * s(i) - (1 - lambda) * range * (largest similarity of i to the items listed so far).

s is the fused score. range is the difference between the best and the worst s of the pool, so that both terms have one
scale. The setting is diversity = 1 - lambda. These values are the scores of the list. They fall from place to place,
because a listed item only lowers the values of the others. With diversity 0 they are the fused scores.

Shapes:  B users · C candidates of a user · n length of a list · I items, counting the padding item 0 · F factors
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.jit import REORDER, compiled
from recsys_spark.metrics.categories import Categories

POOL = 5
"""The best POOL * n candidates form the pool. It is doubled while the maximum per category leaves the list short."""


@dataclass(frozen=True)
class Diversification:
    """How lists are diversified. `max_per_category` counts an item for each of its categories; None is no limit."""

    diversity: float
    max_per_category: int | None
    categories: Categories


def diversify(
    items: np.ndarray, scores: np.ndarray, n: int, settings: Diversification, vectors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return columns int64 [B, n] of the candidates to list, -1 where a list ends early, and values float32 [B, n].

    `items` int32 [B, C] and `scores` float32 [B, C] are candidates by falling score, 0-padded at the right. The
    similarity of two items is the Jaccard index of their categories. If one of them has none, it is the cosine of their
    `vectors` float32 [I, F], at least 0; without vectors it is 0. Of equal candidates the better one wins. Values are
    -inf where the column is -1.
    """
    columns = np.full((len(items), n), -1, np.int64)
    values = np.full((len(items), n), -np.inf, np.float32)
    categories = settings.categories
    table = np.zeros((0, 0), np.float32) if vectors is None else vectors
    limit = items.shape[1] + 1 if settings.max_per_category is None else settings.max_per_category
    counts = np.zeros(categories.count, np.int64)
    _diversify(
        items, scores, float(settings.diversity), limit, categories.indptr, categories.codes, table, counts,
        columns, values,
    )  # fmt: skip
    return columns, values


@compiled
def _diversify(  # type: ignore[no-untyped-def]
    items, scores, diversity, limit, indptr, codes, vectors, counts, columns, values
):  # fmt: skip
    """Fill `columns` and `values`."""
    n = columns.shape[1]
    for user in range(len(items)):
        n_real = 0
        while n_real < items.shape[1] and items[user, n_real] != PADDING_ITEM:
            n_real += 1
        size = min(POOL * n, n_real)
        while True:
            length = _fill(
                items[user, :size], scores[user], diversity, limit, indptr, codes, vectors, counts,
                columns[user], values[user],
            )  # fmt: skip
            if length == n or size == n_real:
                break
            size = min(2 * size, n_real)
        columns[user, length:] = -1
        values[user, length:] = -np.inf


@compiled
def _fill(  # type: ignore[no-untyped-def]
    pool, scores, diversity, limit, indptr, codes, vectors, counts, columns, values
):  # fmt: skip
    """Fill one user's list from the items `pool`; returns its length. `counts` by category is 0 before and after."""
    eligible, nearest = np.ones(len(pool), np.bool_), np.zeros(len(pool))
    score_range = np.float64(scores[0]) - scores[len(pool) - 1] if len(pool) else 0.0
    length = 0
    while length < len(columns):
        best, best_value = -1, 0.0
        for at in range(len(pool)):
            if eligible[at]:
                value = (1 - diversity) * scores[at] - diversity * score_range * nearest[at]
                if best < 0 or value > best_value:
                    best, best_value = at, value
        if best < 0:
            break
        columns[length], values[length] = best, best_value
        length += 1
        eligible[best] = False
        listed = codes[indptr[pool[best]] : indptr[pool[best] + 1]]
        for code in listed:
            counts[code] += 1
        for at in range(len(pool)):
            if eligible[at]:
                others = codes[indptr[pool[at]] : indptr[pool[at] + 1]]
                for code in others:
                    eligible[at] &= counts[code] < limit
                if diversity > 0 and eligible[at]:
                    nearest[at] = max(nearest[at], _similarity(listed, others, pool[best], pool[at], vectors))
    for at in columns[:length]:
        counts[codes[indptr[pool[at]] : indptr[pool[at] + 1]]] = 0
    return length


@compiled
def _similarity(codes, other_codes, item, other, vectors):  # type: ignore[no-untyped-def]
    """The similarity, from 0 to 1, of two items with the categories `codes` and `other_codes`, both ascending."""
    if len(codes) and len(other_codes):
        a, b, shared = 0, 0, 0
        while a < len(codes) and b < len(other_codes):
            shared += codes[a] == other_codes[b]
            a, b = a + (codes[a] <= other_codes[b]), b + (other_codes[b] <= codes[a])
        return shared / (len(codes) + len(other_codes) - shared)
    return _cosine(vectors[item], vectors[other]) if len(vectors) else 0.0


@compiled(fastmath=REORDER)
def _cosine(one, other):  # type: ignore[no-untyped-def]
    """The cosine, 0 if it is negative or a vector is zero."""
    product, square, other_square = 0.0, 0.0, 0.0
    for f in range(len(one)):
        product += np.float64(one[f]) * other[f]
        square += np.float64(one[f]) * one[f]
        other_square += np.float64(other[f]) * other[f]
    return product / np.sqrt(square * other_square) if product > 0 else 0.0
