"""Accuracy metrics of ranked lists, for each user and list. The only NDCG formula of the project stands here.

The evaluate stage, the blend search, early stopping in training and tuning all use it. Pure numpy.

Shapes:  B users · M models · K length of the lists · P positives of all B users
"""

from __future__ import annotations

import numpy as np

from recsys_spark.errors import ContractViolation

METRICS = ("recall", "precision", "f1", "ndcg", "map", "mrr", "hit_rate")


def hit_matrix(lists: np.ndarray, indptr: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return bool [B, M, K]: whether the item at each rank is a positive of its user.

    `lists` int32 [B, M, K] is in rank order and 0 where a list is shorter than K. `indptr` int64 [B + 1] assigns
    `positives` int32 [P] to users. Every user needs at least one (else `ContractViolation`), each item once.
    """
    if np.any(np.diff(indptr) < 1):
        raise ContractViolation("table positives: a user has no items. Run the features stage again with --force")
    width = np.int64(max(lists.max(initial=0), positives.max(initial=0))) + 1
    users = np.arange(len(lists), dtype=np.int64)
    positive_keys = np.repeat(users, np.diff(indptr)) * width + positives
    return np.isin(users[:, None, None] * width + lists, positive_keys)


def discounts(k: int) -> np.ndarray:
    """Return float64 [k]: the DCG discount 1 / log2(1 + rank) of the ranks 1 to k."""
    return np.asarray(1 / np.log2(1 + np.arange(1, k + 1)))


def ideal_dcg(n_positives: np.ndarray, k: int) -> np.ndarray:
    """Return float64, in the shape of `n_positives`: the DCG@k of a list that begins with all positives."""
    return np.concatenate([[0.0], np.cumsum(discounts(k))])[np.minimum(n_positives, k)]


def ndcg(hits: np.ndarray, n_positives: np.ndarray, k: int) -> np.ndarray:
    """Return float64 [...]: NDCG@k with binary gains of `hits` bool [..., K], 0 for a user without positives.

    DCG over the DCG of the ideal list (Järvelin & Kekäläinen 2002), equal to scikit-learn's `ndcg_score`. `n_positives`
    int has the shape of `hits` without K, or broadcasts to it. Positives outside the list count in the ideal.
    """
    shown = hits[..., :k]
    ideal = ideal_dcg(n_positives, k)
    return np.asarray(shown @ discounts(k)[: shown.shape[-1]] / np.where(ideal > 0, ideal, 1))


def user_metrics(hits: np.ndarray, n_positives: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Return metric -> float64 [B, M] at cutoff `k`, from `hits` bool [B, M, K] and `n_positives` int [B], all above 0.

    - recall: hits / positives
    - precision: hits / k, also where the list is shorter than k
    - f1: harmonic mean of recall and precision, 0 without a hit
    - ndcg: see `ndcg`
    - map: sum of the precisions at the hits / min(k, positives)
    - mrr: 1 / rank of the first hit, 0 without a hit
    - hit_rate: 1 with at least one hit
    """
    hit = hits[..., :k].astype(np.float64)
    ranks = np.arange(1, hit.shape[-1] + 1)
    n_hits = hit.sum(-1)
    recall, precision = n_hits / n_positives[:, None], n_hits / k
    return {
        "recall": recall,
        "precision": precision,
        "f1": 2 * recall * precision / np.where(n_hits > 0, recall + precision, 1),
        "ndcg": ndcg(hit, n_positives[:, None], k),
        "map": (hit * np.cumsum(hit, -1) / ranks).sum(-1) / np.minimum(k, n_positives)[:, None],
        "mrr": (hit / ranks).max(-1, initial=0),
        "hit_rate": (n_hits > 0).astype(np.float64),
    }
