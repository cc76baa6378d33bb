"""Lists by a full sort, and the one check that lists are right up to float32 rounding."""

from __future__ import annotations

import numpy as np

from recsys_spark.models.histories import Histories

TOLERANCE = 1e-5
"""Scores that differ by less, relative to the largest score, may change places."""


def assert_best(lists: tuple[np.ndarray, np.ndarray], scores: np.ndarray, histories: Histories, banned: np.ndarray):
    """Check lists (items, scores) [B, k] against `scores` float [B, I] of all items.

    A list holds no excluded item and none twice, falls, breaks ties by item, is as long as it can be, and has the best
    scores.
    """
    items, values = lists
    k = items.shape[1]
    assert (items.dtype, values.dtype) == (np.int32, np.float32)
    for user, seen in enumerate(np.split(histories.items, histories.indptr[1:-1])):
        allowed = np.setdiff1d(np.flatnonzero(~banned), [0, *seen])
        n = min(k, len(allowed))
        own, value = items[user, :n], values[user, :n]
        assert np.isin(own, allowed).all() and len(set(own.tolist())) == n
        assert not items[user, n:].any() and np.isneginf(values[user, n:]).all()
        assert all(a > b or (a == b and i < j) for a, b, i, j in zip(value, value[1:], own, own[1:]))
        scale = np.abs(scores[user, allowed]).max(initial=1e-30)
        np.testing.assert_allclose(value, scores[user, own], rtol=0, atol=TOLERANCE * scale)
        best = np.sort(scores[user, allowed])[::-1][:n]
        np.testing.assert_allclose(value, best, rtol=0, atol=TOLERANCE * scale)
