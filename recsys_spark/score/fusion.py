"""One list out of the lists of several models, and the weights of the blend. Numpy only.

Every model scores the union of all models' candidates. `zscore` adds up the models' standard scores over that union;
`rrf` adds up 1 / (60 + rank) (reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009), here with weights.

Shapes:  M models · B users of a batch (U when learning) · C candidates of a user, ascending, 0-padded · P held-out items found among them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.compiled import compiled
from recsys_spark.item_models.best import rank_pairs

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


def union(lists: Sequence[np.ndarray]) -> np.ndarray:
    """int32 [B, C]: the items that stand in any of the lists int32 [B, m], each once, ascending, 0-padded at the right."""
    last = np.iinfo(np.int32).max
    pool = np.sort(np.concatenate(lists, axis=1), axis=1)
    pool[:, 1:][pool[:, 1:] == pool[:, :-1]] = last
    pool[pool == PADDING_ITEM] = last
    pool.sort(axis=1)
    pool = pool[:, : int(np.count_nonzero(pool != last, axis=1).max(initial=0))]
    return np.where(pool == last, np.int32(PADDING_ITEM), pool)


def parts(method: str, scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32 [M, B, C]: what each model gives to each candidate before weighting; 0 where padded."""
    real = items != PADDING_ITEM
    make = {ZSCORE: _standard_scores, RRF: _reciprocal_ranks}[method]
    return np.stack([np.where(real, make(own, real), 0).astype(np.float32) for own in scores])


def fuse(
    blend: Blend, scores: np.ndarray, items: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fused top n, by (-score, item_idx): items int32 and scores float32, each [B, min(n, C)], and what each model gives to each of them,
    float32 [M, B, min(n, C)], -inf of a model without weight.

    `scores` float32 [M, B, C] are those of `items` int32 [B, C].
    """
    weights = np.asarray(blend.weights, np.float32)
    shares = parts(blend.method, scores, items)
    total = weighted_sum(weights, shares, items == PADDING_ITEM)
    # candidates ascend, so the lower column is the lower item; counted from 1, since rank_pairs pads with 0
    numbers = np.broadcast_to(np.arange(1, items.shape[1] + 1, dtype=np.int32), items.shape)
    columns, top_scores = rank_pairs(numbers, total, min(n, items.shape[1]))
    at = np.maximum(columns - 1, 0)
    top = np.where(columns > 0, np.take_along_axis(items, at, axis=1), np.int32(PADDING_ITEM))
    own = np.take_along_axis(shares, at[None], axis=2) * weights[:, None, None]
    own[weights == 0] = -np.inf
    return top, top_scores, own


def weighted_sum(weights: np.ndarray, shares: np.ndarray, padded: np.ndarray) -> np.ndarray:
    """float32 [B, C]: the blend of `shares` [M, B, C]; -inf where `padded` bool [B, C].

    Models are added one by one in their order: a product of matrices would round by the size of the batch.
    """
    total = np.zeros(padded.shape, np.float32)
    share_of_one = np.empty_like(total)
    for weight, share in zip(weights.astype(np.float32), shares, strict=True):
        if weight:
            total += np.multiply(share, weight, out=share_of_one)
    np.copyto(total, np.float32(-np.inf), where=padded)
    return total


def _standard_scores(scores: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(score - mean) / deviation over the user's candidates; 0 for a model that gives all of them the same."""
    found = np.zeros(scores.shape, np.float32)
    _standardise(scores, real, found)
    return found


@compiled
def _standardise(scores, real, found):  # type: ignore[no-untyped-def]
    # candidate after candidate: numpy's sums would depend on the width of the batch
    for user in range(scores.shape[0]):
        count, total, largest, squares = 0, np.float64(0), np.float64(0), np.float64(0)
        for c in range(scores.shape[1]):
            if real[user, c]:
                count += 1
                total += np.float64(scores[user, c])
                largest = max(largest, abs(np.float64(scores[user, c])))
        mean = total / max(count, 1)
        for c in range(scores.shape[1]):
            if real[user, c]:
                squares += (np.float64(scores[user, c]) - mean) ** 2
        deviation = np.sqrt(squares / max(count, 1))
        # equal float32 scores may leave a rounding error as their deviation
        if deviation > 1e-9 * largest:
            for c in range(scores.shape[1]):
                if real[user, c]:
                    found[user, c] = (np.float64(scores[user, c]) - mean) / deviation


def _reciprocal_ranks(scores: np.ndarray, real: np.ndarray) -> np.ndarray:
    """1 / (60 + rank by (-score, item_idx) among the user's candidates)."""
    order = np.argsort(np.where(real, -scores, np.inf), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return 1.0 / (RRF_K + ranks)
