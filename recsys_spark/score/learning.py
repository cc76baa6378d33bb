"""The weights of the blend: those with the best NDCG@k on the valid fold. Numpy only.

Only the ranks of the held-out items are needed, and a rank is one more than the number of candidates that stand better, so nothing is
sorted. The search is a coarse grid on the simplex, every single model included, and then steps of falling size from one model to another.

Shapes:  M models · U users · C candidates of a user, ascending, 0-padded · P held-out items found among the candidates
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import FUSED, PADDING_ITEM
from recsys_spark.score.fusion import METHODS, ZSCORE, Blend, parts, weighted_sum

log = logging.getLogger(__name__)

GRID = 4
"""The coarse grid's weights are multiples of 1 / GRID."""
FINEST = 1 / 32
"""Smallest step of the refinement."""
BLOCK = 256
"""Users whose arrays are worked on at a time, so that they stay in the processor's cache."""

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Learned:
    """The blend, and the valid NDCG@k of each model alone and of the fused list."""

    blend: Blend
    ndcg: dict[str, float]


@dataclass(frozen=True)
class _Block:
    """Users with at least one held-out item among their candidates: shares [M, u, C], padded bool [u, C]; for each of p held-out items its row,
    its column, and 1 / the ideal DCG of its user."""

    shares: np.ndarray
    padded: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    worth: np.ndarray


def learn(
    models: Sequence[str], scores: np.ndarray, items: np.ndarray, positives: Sequence[np.ndarray], k: int
) -> Learned:
    """Weights and method of the best NDCG@k (the first found of equals; methods in their order).

    `scores` float32 [M, U, C] are those of `items` int32 [U, C]; `positives` has the distinct held-out items of each user. NDCG is averaged over all
    users: DCG with gain 1 over the ideal of min(k, held-out items). When no held-out item stands among the candidates there is nothing
    to learn from, and all models weigh the same.
    """
    rows, columns, worth = _found(items, positives, k)
    if not len(rows):
        log.warning(
            "fusion: none of the valid items of %d users is among the candidates; all models get the same weight",
            len(items),
        )
        return Learned(Blend(ZSCORE, (1 / len(models),) * len(models)), dict.fromkeys((*models, FUSED), 0.0))
    best: tuple[float, Blend] | None = None
    alone: dict[str, float] = {}
    for method in METHODS:
        blocks = list(_blocks(parts(method, scores, items), items, rows, columns, worth))

        def ndcg(weights: Weights, blocks: list[_Block] = blocks) -> float:
            return sum(_dcg(block, np.asarray(weights, np.float32), k) for block in blocks) / len(items)

        if not alone:
            alone = {name: ndcg(_vertex(m, len(models))) for m, name in enumerate(models)}
        value, weights = search(ndcg, len(models))
        log.info("fusion: %s reaches valid NDCG@%d %.4f", method, k, value)
        if best is None or value > best[0]:
            best = value, Blend(method, weights)
    assert best is not None
    return Learned(best[1], {**alone, FUSED: best[0]})


def search(value: Callable[[Weights], float], n_models: int) -> tuple[float, Weights]:
    """The largest `value` found on the simplex of `n_models` weights, and where. Deterministic; single models win ties."""
    best_value, best = max(((value(w), w) for w in grid(n_models)), key=lambda found: found[0])
    step = 0.5 / GRID
    while step >= FINEST:
        found = [(value(w), w) for w in _neighbours(best, step)]
        top = max(found, key=lambda pair: pair[0], default=(best_value, best))
        if top[0] > best_value:
            best_value, best = top
        else:
            step /= 2
    return best_value, best


def grid(n_models: int) -> list[Weights]:
    """All weights that are multiples of 1 / GRID and sum to 1, the most one-sided first (so every single model leads)."""
    points = [p for p in itertools.product(range(GRID + 1), repeat=n_models) if sum(p) == GRID]
    points.sort(key=lambda p: (-max(p), tuple(-x for x in p)))
    return [tuple(x / GRID for x in p) for p in points]


def _neighbours(weights: Weights, step: float) -> Iterator[Weights]:
    """Weights with `step` moved from one model to another. Steps are powers of two, so sums stay exactly 1."""
    for giver, taker in itertools.permutations(range(len(weights)), 2):
        if weights[giver] >= step:
            moved = list(weights)
            moved[giver] -= step
            moved[taker] += step
            yield tuple(moved)


def _vertex(m: int, n_models: int) -> Weights:
    return tuple(float(i == m) for i in range(n_models))


def _found(
    items: np.ndarray, positives: Sequence[np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, worth), each [P]: where held-out items stand among the candidates, by row."""
    totals = np.array([len(p) for p in positives], np.int64)
    rows = np.repeat(np.arange(len(totals)), totals)
    wanted = (
        np.concatenate([np.asarray(p, np.int64) for p in positives]) if len(rows) else np.zeros(0, np.int64)
    )
    at, columns = np.nonzero(items)
    span = max(int(items.max(initial=0)), int(wanted.max(initial=0))) + 1
    keys = at * span + items[at, columns]  # ascending: row by row, and items ascend within a row
    place = np.minimum(np.searchsorted(keys, rows * span + wanted), max(len(keys) - 1, 0))
    hit = keys[place] == rows * span + wanted if len(keys) else np.zeros(len(rows), bool)
    ideal = np.concatenate([[1.0], np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))])  # [0] is of nobody
    return rows[hit], columns[place[hit]], 1 / ideal[np.minimum(totals, k)][rows[hit]]


def _blocks(
    shares: np.ndarray, items: np.ndarray, rows: np.ndarray, columns: np.ndarray, worth: np.ndarray
) -> Iterator[_Block]:
    users, local = np.unique(rows, return_inverse=True)
    for start in range(0, len(users), BLOCK):
        own = users[start : start + BLOCK]
        inside = (local >= start) & (local < start + BLOCK)
        yield _Block(
            np.ascontiguousarray(shares[:, own]),
            items[own] == PADDING_ITEM,
            local[inside] - start,
            columns[inside],
            worth[inside],
        )


def _dcg(block: _Block, weights: np.ndarray, k: int) -> float:
    """Sum of the block's users' NDCG@k."""
    total = weighted_sum(weights, block.shares, block.padded)
    own = total[block.rows, block.columns][:, None]
    rivals = total[block.rows]
    # an equal score stands better when its item is lower, that is further left
    earlier = np.arange(total.shape[1]) < block.columns[:, None]
    ranks = 1 + np.count_nonzero((rivals > own) | ((rivals == own) & earlier), axis=1)
    return float(np.sum(block.worth / np.log2(1.0 + ranks), where=ranks <= k))
