"""What the lists look like, whatever their hits: coverage, novelty, concentration, diversity. Pure numpy and scipy.

Shapes:  I items of the catalogue · L lists · K length of the lists · C categories
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_spark.columns import PADDING_ITEM


def coverage(shown: np.ndarray) -> float:
    """Share of the catalogue that at least one list shows; `shown` int [I] counts how often each item is shown."""
    return float(np.mean(shown > 0)) if len(shown) else float("nan")


def gini(shown: np.ndarray) -> float:
    """Gini coefficient of `shown` int [I], items never shown included: 0 when all are shown alike, (I - 1) / I when only one is.

    Sum of (2 i - I - 1) x_i over I times the sum of x, x ascending and i from 1 (Gini as in Castells, Hurley & Vargas, Recommender Systems
    Handbook, "Novelty and Diversity").
    """
    x = np.sort(shown).astype(np.float64)
    n, total = len(x), x.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total)) if total else float("nan")


def novelty(shown: np.ndarray, owners: np.ndarray, users: int) -> float:
    """Mean self-information of what is shown, in bits: -log2 of the share of users who have the item (Zhou et al. 2010).

    `owners` int [I]: users who have each item. An item that nobody has counts as if one user had it, or it would be infinitely new.
    """
    if not shown.sum() or users < 1:
        return float("nan")
    bits = -np.log2(np.minimum(np.maximum(owners, 1) / users, 1.0))
    return float(shown @ bits / shown.sum())


def average_popularity(shown: np.ndarray, owners: np.ndarray) -> float:
    """Mean number of users who have what is shown."""
    return float(shown @ owners / shown.sum()) if shown.sum() else float("nan")


def intra_list_diversity(lists: np.ndarray, categories: sp.csr_matrix) -> np.ndarray:
    """float64 [L]: 1 - mean Jaccard similarity of the categories, over all pairs of a list's items that both have any; NaN without such a
    pair (Ziegler et al. 2005, with Jaccard as the similarity).

    `lists` int [L, K], 0 where a list ends early. `categories` [items counting the padding item 0, C], 1 where an item has a category.
    """
    n, k = lists.shape
    columns = [categories[lists[:, j]] for j in range(k)]
    sizes = [np.asarray(c.sum(axis=1)).ravel() for c in columns]
    known = [(size > 0) & (lists[:, j] != PADDING_ITEM) for j, size in enumerate(sizes)]
    total, pairs = np.zeros(n), np.zeros(n)
    for a in range(k):
        for b in range(a + 1, k):
            both = known[a] & known[b]
            shared = np.asarray(columns[a].multiply(columns[b]).sum(axis=1)).ravel()
            total += np.where(both, shared / np.maximum(sizes[a] + sizes[b] - shared, 1), 0)
            pairs += both
    return np.where(pairs > 0, 1 - total / np.maximum(pairs, 1), np.nan)


def concentration(counts: np.ndarray, popularity: np.ndarray, points: int = 60) -> list[tuple[float, float]]:
    """How much of `counts` int [I] falls on the most popular items: (share of the catalogue, share of counts), both rising to 1.

    Items stand in order of `popularity` int [I], most popular first, ties by position. Points are spread evenly over the logarithm of the
    rank, since most of what matters happens among the few items in front.
    """
    order = np.argsort(-popularity, kind="stable")
    share = np.cumsum(counts[order]) / max(counts.sum(), 1)
    ranks = np.unique(np.geomspace(1, len(counts), points).round().astype(int))
    return [(float(r / len(counts)), float(share[r - 1])) for r in ranks]
