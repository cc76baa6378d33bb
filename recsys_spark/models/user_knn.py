"""User-based k-nearest neighbours as an item model. `stages/baselines/user_knn.py` prepares its arrays.

The model holds the choices of reference users, by user and by item. A user is compared with them by the history
alone, so users who came after the fit are served like all others. A reference user whose items are all in the history
adds nothing new and is left out. So a user is never a neighbour of themselves.

Shapes:  B users of a batch · U reference users · I items, counting the padding item 0 · T pairs of reference users
         K neighbours of a user · C candidates of a user
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp

from recsys_spark.columns import PADDING_ITEM, USER_KNN
from recsys_spark.models.base import SparseModel, check_items
from recsys_spark.models.heap import largest_of_rows
from recsys_spark.models.histories import Histories

_ROUNDING = 1e-5
"""Relative error of a float32 sum over a history, with a margin."""


class UserKnnModel(SparseModel):
    """score(u, i) = target_i * sum of similarity(u, v) over u's neighbours v who have i. Repeated choices do not count.

    With w_i the weight of an item, o(u, v) the sum of w_i over the items of both users, m_u the sum over u's items,
    and W the sum over all items,

        cosine:   similarity = (o / (n_u n_v)^user_power)^similarity_power, n_u the number of u's items
        pearson:  similarity = ((o - m_u m_v / W) / (s_u s_v)^user_power)^similarity_power, s_u = m_u (1 - m_u / W)

    User-based neighbours: Resnick et al., GroupLens, CSCW 1994 (Pearson). Powers of the cosine: Aiolli, RecSys 2013.
    With user_power 0.5, similarity_power 1 and all w_i = 1, cosine is the cosine of two rows of 0 and 1, and pearson
    their correlation (the phi coefficient). Only similarities above 0 count, and of these the `neighbours` largest.
    Items without pairs in the fit have weight 0: they add nothing and do not count in n_u.

    arrays: `user_indptr` int64 [U+1], `user_items` int32 [T], `user_targets` float32 [T]: the items of each reference
    user, ascending, with target_i · `item_indptr` int64 [I+1], `item_users` int32 [T], `item_weights` float32 [T]: the
    reference users of each item, ascending, with w_i · `weights` float64 [I] · `masses` float64 [U], m_v · `scales`
    float64 [U], n_v^-user_power or s_v^-user_power.
    parameters: `neighbours`, `user_power`, `similarity_power`, and `centre`: 1 / W for pearson, 0 for cosine.
    """

    kind = USER_KNN

    def encode(self, histories: Histories) -> sp.csr_matrix:
        """Return float32 [B, U], the similarities to the K nearest reference users.

        Raises `ValueError` when a history holds an item that the model does not know.
        """
        check_items(histories.items, self.n_items)
        k = max(1, min(self.parameters["neighbours"], len(self.arrays["masses"])))
        step = max(1, self.users_at_once())
        parts = [self._nearest(part, k) for part in histories.batches(step)]
        empty = sp.csr_matrix((0, len(self.arrays["masses"])), dtype=np.float32)
        return sp.vstack([empty, *parts], format="csr", dtype=np.float32)

    def sparse_scores(self, encoded: sp.csr_matrix) -> sp.csr_matrix:
        return encoded @ self._by_user

    def explain(self, histories: Histories, encoded: sp.csr_matrix, items: np.ndarray) -> np.ndarray:
        """Return the history item of the largest part of the score.

        A neighbour v who has i adds similarity(u, v). The share of the history item j in that is its share in the
        similarity: w_j ([v has j] - m_v centre). The parts of all j sum to the score, up to the factor target_i.
        """
        check_items(items, self.n_items)
        sources = np.zeros(items.shape, np.int32)
        for user in np.flatnonzero(items.any(axis=1)):
            history = histories.items[histories.indptr[user] : histories.indptr[user + 1]]
            columns = np.flatnonzero(items[user] != PADDING_ITEM)
            parts = self._parts(history, encoded[user], items[user, columns])
            if len(history):
                newest_first = parts[:, ::-1]
                best = newest_first.argmax(axis=1)
                above = newest_first[np.arange(len(columns)), best] > 0
                sources[user, columns] = np.where(above, history[::-1][best], PADDING_ITEM)
        return sources

    def _parts(self, history: np.ndarray, similarities: sp.csr_matrix, items: np.ndarray) -> np.ndarray:
        """Return float64 [C, n]: the parts of one user's scores of `items` that each item of `history` makes."""
        rows = self._by_user[similarities.indices]
        has_history = rows[:, history].toarray() > 0
        has_item = rows[:, items].toarray() > 0
        weights, centre = self.arrays["weights"][history], self.parameters["centre"]
        shares = weights * (has_history - centre * self.arrays["masses"][similarities.indices][:, None])
        whole = shares.sum(axis=1)
        scale = np.where(whole > 0, similarities.data / np.where(whole > 0, whole, 1), 0)
        return (has_item * scale[:, None]).T @ shares

    def _nearest(self, histories: Histories, k: int) -> sp.csr_matrix:
        a, p = self.arrays, self.parameters
        overlap = histories.choices(self.n_items) @ self._by_item
        masses, scales = measure(histories.indptr, histories.items, a["weights"], p["centre"], p["user_power"])
        row = np.repeat(np.arange(len(histories)), np.diff(overlap.indptr))
        sums, others = overlap.data.astype(np.float64), a["masses"][overlap.indices]
        values = (sums - masses[row] * p["centre"] * others) * scales[row] * a["scales"][overlap.indices]
        values[(values < 0) | (sums > others * (1 - _ROUNDING))] = 0
        users = np.zeros((len(histories), k), np.int32)
        similarities = np.zeros((len(histories), k), np.float32)
        kept = (values ** p["similarity_power"]).astype(np.float32)
        largest_of_rows(overlap.indptr, overlap.indices, kept, users, similarities)
        counts = np.count_nonzero(similarities, axis=1)
        filled = similarities > 0
        parts = similarities[filled], users[filled], np.concatenate([[0], np.cumsum(counts)])
        nearest = sp.csr_matrix(parts, shape=overlap.shape)
        nearest.sort_indices()
        return nearest

    @cached_property
    def _by_user(self) -> sp.csr_matrix:
        return self._matrix("user_targets", "user_items", "user_indptr", (len(self.arrays["masses"]), self.n_items))

    @cached_property
    def _by_item(self) -> sp.csr_matrix:
        return self._matrix("item_weights", "item_users", "item_indptr", (self.n_items, len(self.arrays["masses"])))

    def _matrix(self, data: str, indices: str, indptr: str, shape: tuple[int, int]) -> sp.csr_matrix:
        """A matrix over the arrays' own memory."""
        return sp.csr_matrix(tuple(np.asarray(self.arrays[name]) for name in (data, indices, indptr)), shape=shape)


def measure(
    indptr: np.ndarray, items: np.ndarray, weights: np.ndarray, centre: float, user_power: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (masses, scales) float64 of users whose items are CSR rows.

    masses are m_u. scales are n_u^-user_power or, with a `centre` above 0, s_u^-user_power; 0 for a user without items
    or variance.
    """
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    own_weights = np.asarray(weights)[items]
    masses = np.bincount(owner, own_weights, len(indptr) - 1)
    sizes = np.bincount(owner, own_weights > 0, len(indptr) - 1)
    if centre > 0:
        rest = 1 - masses * centre
        sizes = np.where(rest > 1e-9, masses * rest, 0)
    return masses, np.where(sizes > 0, np.where(sizes > 0, sizes, 1) ** -user_power, 0)
