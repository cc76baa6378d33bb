"""Blending: the scores of several models become one score of each candidate, before any ranker. Pure numpy.

Every model scores the union of all models' candidates. Its scores are normalised for each user, because models score
on different scales: `zscore` standardises them over the candidates, `rrf` turns them into 1 / (60 + rank) (reciprocal
rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009). The blend is the weighted sum over the models.

Shapes:  M models · B users · C candidates of a user, where item 0 is padding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import PADDING_ITEM

ZSCORE = "zscore"
RRF = "rrf"
METHODS = (ZSCORE, RRF)
RRF_K = 60
"""The constant of the paper. A larger one makes the first ranks count less."""


@dataclass(frozen=True)
class Blend:
    """A normalisation `method`, and one weight of each model. The weights sum to 1."""

    method: str
    weights: tuple[float, ...]


def union(lists: Sequence[np.ndarray]) -> np.ndarray:
    """Return int32 [B, C]: the distinct items of `lists`, each int32 [B, m], ascending and 0-padded at the right."""
    last = np.iinfo(np.int32).max
    pool = np.sort(np.concatenate(lists, axis=1), axis=1)
    pool[:, 1:][pool[:, 1:] == pool[:, :-1]] = last
    pool[pool == PADDING_ITEM] = last
    pool.sort(axis=1)
    pool = pool[:, : int(np.count_nonzero(pool != last, axis=1).max(initial=0))]
    return np.where(pool == last, np.int32(PADDING_ITEM), pool)


def normalise(method: str, scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return float32 [M, B, C]: the normalised `scores` float32 [M, B, C] of `items` int32 [B, C], 0 for padding."""
    function = {ZSCORE: _standard_scores, RRF: _reciprocal_ranks}[method]
    normalised = np.empty(scores.shape, np.float32)
    for model in range(len(scores)):  # one at a time, so that temporary arrays stay small
        normalised[model] = function(scores[model], items != PADDING_ITEM)
    return normalised


def among_best(reciprocal_ranks: np.ndarray, depth: int) -> np.ndarray:
    """Return whether each rank is at most `depth`, from scores normalised by RRF, in their shape."""
    return reciprocal_ranks >= np.float32(1 / (RRF_K + depth))


def weighted_sum(weights: Sequence[float], normalised: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return float32 [B, C]: the blend of `normalised` float32 [M, B, C], and -inf where `items` is padding.

    Models are added one by one, as the blend search does, so that both break ties alike.
    """
    total = np.where(items == PADDING_ITEM, np.float32(-np.inf), np.float32(0))
    for weight, scores in zip(np.asarray(weights, np.float32), normalised, strict=True):
        if weight:
            total += weight * scores
    return total


def _standard_scores(scores: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return (score - mean) / standard deviation over a user's candidates, 0 where all scores are equal."""
    n = np.maximum(real.sum(axis=1, keepdims=True), 1)
    values = np.where(real, scores, 0).astype(np.float64)
    centred = np.where(real, values - values.sum(axis=1, keepdims=True) / n, 0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n)
    # the mean of equal scores may be rounded, which leaves a tiny deviation
    equal = deviation <= 1e-9 * np.abs(values).max(axis=1, keepdims=True, initial=0)
    return np.asarray(centred / np.where(equal, np.inf, deviation))


def _reciprocal_ranks(scores: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return 1 / (60 + rank by (-score, item)). The items of a user ascend."""
    order = np.argsort(np.where(real, -scores, np.inf), axis=1, kind="stable")
    ranks = np.arange(1, scores.shape[1] + 1)
    reciprocal = np.zeros(scores.shape)
    np.put_along_axis(reciprocal, order, np.broadcast_to(1 / (RRF_K + ranks), scores.shape), axis=1)
    return np.where(real, reciprocal, 0)
