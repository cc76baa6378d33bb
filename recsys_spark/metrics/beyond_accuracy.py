"""Properties of lists that do not depend on hits: coverage, novelty, concentration, diversity. Pure numpy and scipy.

Shapes:  I items of the catalogue · L lists · K length of the lists
"""

from __future__ import annotations

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.metrics.categories import Categories


def coverage(shown: np.ndarray) -> float:
    """Return the share of the catalogue in at least one list; `shown` int [I] is the number of lists of each item."""
    return float(np.mean(shown > 0)) if len(shown) else float("nan")


def gini(shown: np.ndarray) -> float:
    """Return the Gini coefficient of `shown` int [I], which includes items in no list.

    It is 0 when all items are shown equally often and (I - 1) / I when only one item is shown. With x ascending:
    sum of (2 i - I - 1) x_i / (I sum of x), i from 1 (Castells, Hurley & Vargas, Recommender Systems Handbook,
    "Novelty and Diversity").
    """
    x = np.sort(shown).astype(np.float64)
    n, total = len(x), x.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total)) if total else float("nan")


def novelty(shown: np.ndarray, owners: np.ndarray, users: int) -> float:
    """Return the mean self-information of the listed items in bits (Zhou et al. 2010): -log2 of the share of users.

    `owners` int [I] is the number of users of each item. An item without users counts as having one, since its
    self-information would be infinite.
    """
    if not shown.sum() or users < 1:
        return float("nan")
    bits = -np.log2(np.minimum(np.maximum(owners, 1) / users, 1.0))
    return float(shown @ bits / shown.sum())


def average_popularity(shown: np.ndarray, owners: np.ndarray) -> float:
    """Return the mean number of users of the listed items."""
    return float(shown @ owners / shown.sum()) if shown.sum() else float("nan")


def intra_list_diversity(lists: np.ndarray, categories: Categories) -> np.ndarray:
    """Return float64 [L]: 1 - mean Jaccard similarity of the categories over all pairs of items of a list.

    Only pairs in which both items have categories count; a list without such a pair is NaN. `lists` int [L, K] is 0
    where a list ends early. Source: Ziegler et al. 2005, with Jaccard as the similarity.
    """
    n, k = lists.shape
    rows = [categories.matrix[lists[:, j]] for j in range(k)]
    sizes = [np.asarray(row.sum(axis=1)).ravel() for row in rows]
    known = [(size > 0) & (lists[:, j] != PADDING_ITEM) for j, size in enumerate(sizes)]
    total, pairs = np.zeros(n), np.zeros(n)
    for a in range(k):
        for b in range(a + 1, k):
            both = known[a] & known[b]
            shared = np.asarray(rows[a].multiply(rows[b]).sum(axis=1)).ravel()
            total += np.where(both, shared / np.maximum(sizes[a] + sizes[b] - shared, 1), 0)
            pairs += both
    return np.where(pairs > 0, 1 - total / np.maximum(pairs, 1), np.nan)


def concentration(counts: np.ndarray, popularity: np.ndarray, points: int = 60) -> list[tuple[float, float]]:
    """Return the curve (share of the catalogue, share of `counts` int [I] on it), most popular items first.

    `popularity` int [I] orders the items, ties by position. Both shares rise to 1. The points lie evenly on the
    logarithm of the rank, since most of the change is among the first items.
    """
    order = np.argsort(-popularity, kind="stable")
    share = np.cumsum(counts[order]) / max(counts.sum(), 1)
    ranks = np.unique(np.geomspace(1, len(counts), points).round().astype(int))
    return [(float(r / len(counts)), float(share[r - 1])) for r in ranks]
