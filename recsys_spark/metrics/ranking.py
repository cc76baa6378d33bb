"""Accuracy of ranked lists, user by user: one hit matrix, and every metric from it. Pure numpy.

Shapes:  B users · M models · K length of the lists · P positives of all B users
"""

from __future__ import annotations

import numpy as np

from recsys_spark.errors import ContractViolation

METRICS = ("recall", "precision", "f1", "ndcg", "map", "mrr", "hit_rate")


def hit_matrix(lists: np.ndarray, indptr: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """bool [B, M, K]: which places of the lists hold a positive of their user.

    `lists` int32 [B, M, K] in rank order, 0 where a list is shorter than K. `indptr` int64 [B + 1] cuts `positives` int32 [P] into users,
    each with at least one (`ContractViolation` otherwise), none twice.
    """
    if np.any(np.diff(indptr) < 1):
        raise ContractViolation("table positives holds a user without items; run the features stage again with --force")
    width = np.int64(max(lists.max(initial=0), positives.max(initial=0))) + 1
    users = np.arange(len(lists), dtype=np.int64)
    wanted = np.repeat(users, np.diff(indptr)) * width + positives
    return np.isin(users[:, None, None] * width + lists, wanted)


def user_metrics(hits: np.ndarray, n_positives: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Metric name -> float64 [B, M] at cutoff `k`, from `hits` bool [B, M, K] and `n_positives` int [B].

    recall = hits / positives · precision = hits / k (a short list is not excused) · f1 their harmonic mean, 0 without a hit ·
    ndcg: binary gains, discount log2(1 + rank), over the ideal of min(k, positives) (Järvelin & Kekäläinen 2002; equals scikit-learn's
    `ndcg_score` with k) · map: precisions at the hits over min(k, positives) · mrr = 1 / rank of the first hit, 0 without one · hit_rate.
    """
    hit = hits[..., :k].astype(np.float64)
    ranks = np.arange(1, hit.shape[-1] + 1)
    found = hit.sum(-1)
    best = np.minimum(k, n_positives)[:, None]
    recall, precision = found / n_positives[:, None], found / k
    discounts = 1 / np.log2(1 + np.arange(1, k + 1))
    ideal = np.cumsum(discounts)[best - 1]
    return {
        "recall": recall,
        "precision": precision,
        "f1": 2 * recall * precision / np.where(found > 0, recall + precision, 1),
        "ndcg": hit @ discounts[: len(ranks)] / ideal,
        "map": (hit * np.cumsum(hit, -1) / ranks).sum(-1) / best,
        "mrr": (hit / ranks).max(-1, initial=0),
        "hit_rate": (found > 0).astype(np.float64),
    }
