"""One list out of the lists of several models. Numpy only.

Every model scores the union of all models' candidates. `zscore` adds up the models' standard scores over that union;
`rrf` adds up 1 / (60 + rank) (reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009), here with weights.

Shapes:  M models · B users of a batch · C candidates of a user, ascending, 0-padded · T candidates of all users, in one flat array
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.jit import compiled
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.heap import rank_pairs

ZSCORE = "zscore"
RRF = "rrf"
METHODS = (ZSCORE, RRF)
RRF_K = 60
"""The constant of the paper: how slowly the worth of a rank falls."""


@dataclass(frozen=True)
class Blend:
    """How lists are fused: `weights` has one number a model, in the order of the models, and sums to 1."""

    method: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Fusion:
    """What makes the fused list: the `models` that take part, their blend, and the file of the ranker (ranker.py) that orders the blend's
    best anew, where one is shipped, and the items' categories, which it is told of."""

    models: tuple[str, ...]
    blend: Blend
    ranker: str | None = None
    categories: Categories | None = None


@dataclass(frozen=True)
class Rows:
    """Where the candidates of each of B users lie in a flat array: starts and lengths, int64 [B]."""

    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, lengths: np.ndarray) -> Rows:
        """User after user, nothing between them."""
        return cls(np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def padded(cls, items: np.ndarray) -> Rows:
        """Of items int32 [B, C], flattened."""
        return cls(np.arange(len(items)) * items.shape[1], np.count_nonzero(items, axis=1))

    def of_users(self, users: np.ndarray) -> Rows:
        """Those of the rows `users` int64 of users, in that order."""
        return Rows(self.starts[users], self.lengths[users])


def union(lists: Sequence[np.ndarray]) -> np.ndarray:
    """int32 [B, C]: the items that stand in any of the lists int32 [B, m], each once, ascending, 0-padded at the right."""
    last = np.iinfo(np.int32).max
    pool = np.sort(np.concatenate(lists, axis=1), axis=1)
    pool[:, 1:][pool[:, 1:] == pool[:, :-1]] = last
    pool[pool == PADDING_ITEM] = last
    pool.sort(axis=1)
    pool = pool[:, : int(np.count_nonzero(pool != last, axis=1).max(initial=0))]
    return np.where(pool == last, np.int32(PADDING_ITEM), pool)


def shares(method: str, scores: np.ndarray, rows: Rows) -> np.ndarray:
    """float32 [M, T]: what each model gives to each candidate before weighting, from scores float32 [M, T]; 0 between the rows."""
    found = np.zeros(scores.shape, np.float32)
    make = {ZSCORE: _standardise, RRF: _reciprocal_ranks}[method]
    for own, given in zip(scores, found):
        make(np.ascontiguousarray(own), rows.starts, rows.lengths, given)
    return found


def listed(ranks: np.ndarray, depth: int) -> np.ndarray:
    """bool [M, T]: which candidates are in the model's own list of `depth`, from `ranks`, its `shares` by RRF. All of that list are among the candidates,
    and no candidate beats them."""
    return ranks >= np.float32(1 / (RRF_K + depth))


def parts(method: str, scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32 [M, B, C]: `shares` of scores float32 [M, B, C] of items int32 [B, C]; 0 where padded."""
    return shares(method, scores.reshape(len(scores), -1), Rows.padded(items)).reshape(scores.shape)


def fuse(
    blend: Blend,
    scores: np.ndarray,
    items: np.ndarray,
    n: int,
    reorder: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fused top n, by (-score, item_idx): items int32 and scores float32, each [B, min(n, C)], and what each model gives to each of them,
    float32 [M, B, min(n, C)], -inf of a model without weight.

    `scores` float32 [M, B, C] are those of `items` int32 [B, C]. `reorder` takes the blend's scores float32 [B, C] and gives those that count
    in their stead, -inf for what is not to be listed.
    """
    weights = np.asarray(blend.weights, np.float32)
    given = parts(blend.method, scores, items)
    total = np.where(items == PADDING_ITEM, np.float32(-np.inf), weighted_sum(weights, given))
    if reorder:
        total = reorder(total)
    # candidates ascend, so the lower column is the lower item; counted from 1, since rank_pairs pads with 0
    numbers = np.broadcast_to(np.arange(1, items.shape[1] + 1, dtype=np.int32), items.shape)
    columns, top_scores = rank_pairs(numbers, total, min(n, items.shape[1]))
    at = np.maximum(columns - 1, 0)
    top = np.where(columns > 0, np.take_along_axis(items, at, axis=1), np.int32(PADDING_ITEM))
    own = np.take_along_axis(given, at[None], axis=2) * weights[:, None, None]
    own[weights == 0] = -np.inf
    return top, top_scores, own


def weighted_sum(weights: np.ndarray, given: np.ndarray) -> np.ndarray:
    """float32 [...]: the blend of `given` float32 [M, ...].

    Models are added one by one in their order: a product of matrices would round by the size of the batch.
    """
    total = np.zeros(given.shape[1:], np.float32)
    share_of_one = np.empty_like(total)
    for weight, share in zip(np.asarray(weights, np.float32), given, strict=True):
        if weight:
            total += np.multiply(share, weight, out=share_of_one)
    return total


@compiled
def _standardise(scores, starts, lengths, found):  # type: ignore[no-untyped-def]
    """(score - mean) / deviation over the user's candidates; 0 for a model that gives all of them the same."""
    # candidate after candidate: numpy's sums would depend on the width of the batch
    for user in range(len(starts)):
        first, last = starts[user], starts[user] + lengths[user]
        total, largest, squares = np.float64(0), np.float64(0), np.float64(0)
        for c in range(first, last):
            total += np.float64(scores[c])
            largest = max(largest, abs(np.float64(scores[c])))
        mean = total / max(last - first, 1)
        for c in range(first, last):
            squares += (np.float64(scores[c]) - mean) ** 2
        deviation = np.sqrt(squares / max(last - first, 1))
        # equal float32 scores may leave a rounding error as their deviation
        if deviation > 1e-9 * largest:
            for c in range(first, last):
                found[c] = (np.float64(scores[c]) - mean) / deviation


@compiled
def _reciprocal_ranks(scores, starts, lengths, found):  # type: ignore[no-untyped-def]
    """1 / (60 + rank by (-score, item_idx) among the user's candidates)."""
    for user in range(len(starts)):
        first, last = starts[user], starts[user] + lengths[user]
        order = np.argsort(-scores[first:last], kind="mergesort")
        for place in range(last - first):
            found[first + order[place]] = 1.0 / (RRF_K + 1.0 + place)
