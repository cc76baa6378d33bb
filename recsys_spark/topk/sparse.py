"""The k best items of models whose scores are zero for most items: they are picked out of sparse rows.

Shapes:  B users of a batch · I items, counting the padding item 0 · k length of a list
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_spark.errors import ContractViolation
from recsys_spark.jit import compiled
from recsys_spark.models.base import SparseModel
from recsys_spark.models.heap import item_of, largest, score_of
from recsys_spark.topk.exclusions import Exclusions
from recsys_spark.topk.selection import TopK


def top_k(model: SparseModel, encoded: Any, exclusions: Exclusions, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists of the users, as `TopK.lists` does."""
    n_users, step = len(exclusions), model.users_at_once()
    items, scores = np.zeros((n_users, k), np.int32), np.full((n_users, k), -np.inf, np.float32)
    for start in range(0, n_users, step):
        rows = slice(start, min(start + step, n_users))
        sparse = model.sparse_scores(encoded[rows])
        if np.isnan(sparse.data).any():
            raise ContractViolation(f"gives NaN scores to {int(np.isnan(sparse.data).sum())} (user, item) pairs")
        part = exclusions.rows(rows.start, rows.stop)
        row = sparse.indptr, sparse.indices, sparse.data
        _select(*row, part.banned, part.indptr, part.seen, items[rows], scores[rows])
        # too few scores above zero: items that score zero, and below it, complete the list
        short = np.flatnonzero(items[rows][:, -1] == 0)
        for user in short:
            dense = sparse[user].toarray()
            top = TopK(part.rows(user, user + 1), k)
            top.offer(dense, np.zeros(1, np.int64), np.arange(model.n_items, dtype=np.int32))
            (items[start + user],), (scores[start + user],) = top.lists()
    return items, scores


@compiled
def _select(indptr, columns, values, banned, seen_indptr, seen, items, scores):  # type: ignore[no-untyped-def]
    """Fill items and scores [B, k] with the largest scores above zero of each row that are not excluded."""
    excluded, keys = banned.copy(), np.empty(items.shape[1], np.uint64)
    for user in range(len(items)):
        history = seen[seen_indptr[user] : seen_indptr[user + 1]]
        excluded[history] = True
        first, last = indptr[user], indptr[user + 1]
        row = values[first:last]
        for at in range(len(row)):
            if excluded[columns[first + at]]:
                row[at] = 0
        excluded[history] = banned[history]
        n = largest(columns[first:last], row, len(row), items.shape[1], keys)
        for place, key in enumerate(np.sort(keys[:n])[::-1]):
            items[user, place], scores[user, place] = item_of(key), score_of(key)
