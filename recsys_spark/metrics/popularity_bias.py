"""Popularity bias: whether lists hold more popular items than the histories of their users. Pure numpy.

Shapes:  U users · E items of all U users, one user after the other · I items counting the padding item 0
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

HEAD = 0.2
"""Share of the items that count as popular."""


def popular_items(popularity: np.ndarray, head: float = HEAD) -> np.ndarray:
    """Return bool [I]: the most popular `head` of the items that have users, rounded up; ties go to the lower index.

    `popularity` int [I] is the number of users of each item.
    """
    n = int(np.ceil(head * np.count_nonzero(popularity)))
    popular = np.zeros(len(popularity), bool)
    popular[np.argsort(-popularity, kind="stable")[:n]] = True
    return popular


def mean_by_user(indptr: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return float64 [U]: the mean of `values[indptr[u]:indptr[u + 1]]` for each user u, NaN for a user without any.

    `indptr` is int64 [U + 1], `values` [E]. The mean of integers is exact as long as their sum is below 2^53.
    """
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    lengths = np.diff(indptr)
    return np.where(lengths > 0, np.diff(sums[indptr]) / np.maximum(lengths, 1), np.nan)


def lift(profile: ArrayLike, listed: ArrayLike) -> np.ndarray:
    """Return (listed - profile) / profile as float64 in the inputs' shape, NaN where `profile` is 0.

    For group means this is the Delta-GAP of Abdollahpouri, Mansoury, Burke & Mobasher, "The Unfairness of Popularity
    Bias in Recommendation" (RMSE workshop, RecSys 2019). It is 0 when lists are as popular as histories and 1 when they
    are twice as popular. The paper's popularity is a share of users, ours a count; the ratio is the same.
    """
    profile, listed = np.asarray(profile, np.float64), np.asarray(listed)
    return np.where(profile > 0, (listed - profile) / np.where(profile > 0, profile, 1), np.nan)
