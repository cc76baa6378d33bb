"""Lists that do not say the same thing twice: maximal marginal relevance, and at most so many items of a category. Numpy only.

MMR (Carbonell and Goldstein, SIGIR 1998) fills a list place by place with the candidate of the largest

    lambda * s(i) - (1 - lambda) * spread * (largest similarity of i to what is listed already),

s the blend's score and spread the distance between the best and the worst s of the pool it is chosen from, so that lambda weighs two things of
one size. The setting is `diversity` = 1 - lambda. These values fall from place to place by themselves, since nothing that is listed makes
another item better; they are the scores of the list. With lambda = 1 they are the blend's.

Shapes:  B users · C candidates of a user · n length of a list · I items counting the padding item 0 · K category entries of all items · F factors
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.jit import REORDER, compiled
from recsys_spark.metrics.categories import Categories

POOL = 5
"""Times the length of a list: so many of the blend's best are chosen from, and twice as many again and again while caps leave the list short."""


@dataclass(frozen=True)
class Variety:
    """How lists are spread out: `diversity` = 1 - lambda, at most `cap` items of one category (None: any number; an item counts for each of its
    categories and a list may then end early)."""

    diversity: float
    cap: int | None
    categories: Categories


def spread_out(
    items: np.ndarray, scores: np.ndarray, n: int, variety: Variety, vectors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(columns int64 [B, n], -1 where a list ends early, values float32 [B, n], falling, -inf there) of the n to list.

    `items` int32 [B, C] and `scores` float32 [B, C] are a user's candidates by falling score, 0-padded at the right. Two items are as similar
    as the share of their categories that they have in common (Jaccard); where one of them has none, as the cosine of their `vectors`
    float32 [I, F], 0 if it is below; without vectors 0. Ties to the better candidate.
    """
    columns = np.full((len(items), n), -1, np.int64)
    values = np.full((len(items), n), -np.inf, np.float32)
    told = variety.categories
    table = np.zeros((0, 0), np.float32) if vectors is None else vectors
    cap = len(items[0]) + 1 if variety.cap is None and len(items) else variety.cap or 0
    _spread_out(
        items,
        scores,
        float(variety.diversity),
        cap,
        told.indptr,
        told.codes,
        told.count,
        table,
        columns,
        values,
    )
    return columns, values


@compiled
def _spread_out(
    items: np.ndarray,
    scores: np.ndarray,
    diversity: float,
    cap: int,
    indptr: np.ndarray,
    codes: np.ndarray,
    n_codes: int,
    vectors: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
) -> None:
    """Fill columns and values [B, n]."""
    n = columns.shape[1]
    used = np.zeros(n_codes, np.int64)
    for user in range(len(items)):
        count = 0
        while count < items.shape[1] and items[user, count] != PADDING_ITEM:
            count += 1
        pool = min(POOL * n, count)
        while True:
            found = _choose(
                items[user, :pool],
                scores[user],
                diversity,
                cap,
                indptr,
                codes,
                vectors,
                used,
                columns[user],
                values[user],
            )
            if found == n or pool == count:
                break
            pool = min(2 * pool, count)
        columns[user, found:] = -1
        values[user, found:] = -np.inf


@compiled
def _choose(
    pool: np.ndarray,
    scores: np.ndarray,
    diversity: float,
    cap: int,
    indptr: np.ndarray,
    codes: np.ndarray,
    vectors: np.ndarray,
    used: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
) -> int:
    """One user's list out of the items `pool`; returns how many there are. `used` is zero before and after."""
    open_, nearest = np.ones(len(pool), np.bool_), np.zeros(len(pool))
    spread = np.float64(scores[0]) - scores[len(pool) - 1] if len(pool) else 0.0
    found = 0
    while found < len(columns):
        best, most = -1, 0.0
        for at in range(len(pool)):
            if open_[at]:
                value = (1 - diversity) * scores[at] - diversity * spread * nearest[at]
                if best < 0 or value > most:
                    best, most = at, value
        if best < 0:
            break
        columns[found], values[found] = best, most
        found += 1
        open_[best] = False
        own = codes[indptr[pool[best]] : indptr[pool[best] + 1]]
        for code in own:
            used[code] += 1
        for at in range(len(pool)):
            if open_[at]:
                theirs = codes[indptr[pool[at]] : indptr[pool[at] + 1]]
                for code in theirs:
                    open_[at] &= used[code] < cap
                if diversity > 0 and open_[at]:
                    nearest[at] = max(nearest[at], _similarity(own, theirs, pool[best], pool[at], vectors))
    for at in columns[:found]:
        used[codes[indptr[pool[at]] : indptr[pool[at] + 1]]] = 0
    return found


@compiled
def _similarity(own: np.ndarray, theirs: np.ndarray, item: int, other: int, vectors: np.ndarray) -> float:
    """From 0 to 1, of two items whose categories are `own` and `theirs`, ascending."""
    if len(own) and len(theirs):
        a, b, shared = 0, 0, 0
        while a < len(own) and b < len(theirs):
            shared += own[a] == theirs[b]
            a, b = a + (own[a] <= theirs[b]), b + (theirs[b] <= own[a])
        return shared / (len(own) + len(theirs) - shared)
    return _cosine(vectors[item], vectors[other]) if len(vectors) else 0.0


@compiled(fastmath=REORDER)
def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    """0 where it is below, or a vector is zero."""
    product, square, other_square = 0.0, 0.0, 0.0
    for f in range(len(one)):
        product += np.float64(one[f]) * other[f]
        square += np.float64(one[f]) * one[f]
        other_square += np.float64(other[f]) * other[f]
    return product / np.sqrt(square * other_square) if product > 0 else 0.0
