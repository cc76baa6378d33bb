"""Whether lists hold more popular items than what their users had. Pure numpy.

Shapes:  U users · E items of all U users one after the other, cut by indptr · I items counting the padding item 0 · S resamples
"""

from __future__ import annotations

import numpy as np

HEAD = 0.2
"""Share of the items that count as popular."""


def popular_items(popularity: np.ndarray, head: float = HEAD) -> np.ndarray:
    """bool [I]: the most popular `head` of all items that anybody has, rounded up; of equals the first. `popularity` int [I]: users who
    have each."""
    n = int(np.ceil(head * np.count_nonzero(popularity)))
    chosen = np.zeros(len(popularity), bool)
    chosen[np.argsort(-popularity, kind="stable")[:n]] = True
    return chosen


def mean_by_user(indptr: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float64 [U]: mean of each user's part of `values` [E], cut by `indptr` int64 [U + 1]; NaN for a user without any.

    Of whole numbers below 2^53 in sum it is exact, whatever their order.
    """
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    lengths = np.diff(indptr)
    return np.where(lengths > 0, np.diff(sums[indptr]) / np.maximum(lengths, 1), np.nan)


def lift(profile: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """float64, of the inputs' shape: (listed - profile) / profile, NaN where `profile` is 0.

    Of group means this is the Delta-GAP of Abdollahpouri, Mansoury, Burke & Mobasher, "The Unfairness of Popularity Bias in Recommendation"
    (RMSE workshop, RecSys 2019): 0 when lists are as popular as profiles, 1 when twice as popular. They count the share of users who have an
    item and we the users, which is the same here.
    """
    profile = np.asarray(profile, np.float64)
    return np.where(profile > 0, (listed - profile) / np.where(profile > 0, profile, 1), np.nan)
