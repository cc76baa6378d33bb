"""Item-item tables as item models: a user's score of an item is the sum of what each history item adds to it.

`stages/baselines/` fits the tables: item kNN, item ridge regression and content similarity.

Shapes:  B users of a batch · I items, counting the padding item 0 · N entries of the table · C candidates of a user
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp

from recsys_spark.columns import CONTENT, ITEM_KNN, ITEM_RIDGE, PADDING_ITEM
from recsys_spark.jit import compiled
from recsys_spark.models.base import SparseModel, check_items
from recsys_spark.models.heap import largest_of_rows
from recsys_spark.models.histories import Histories


class ItemTableModel(SparseModel):
    """score(u, i) = sum over the items j of u's history of table[j, i]. Repeated choices of j do not count.

    arrays: CSR rows of the history item j, ascending by candidate within a row:
    `indptr` int64 [I+1] · `neighbours` int32 [N] · `similarities` float32 [N].
    """

    def encode(self, histories: Histories) -> sp.csr_matrix:
        """Return float32 [B, I], 1 for each history item. Raises `ValueError` for an item that the table lacks."""
        check_items(histories.items, self.n_items)
        return histories.choices(self.n_items)

    def sparse_scores(self, encoded: sp.csr_matrix) -> sp.csr_matrix:
        return encoded @ self.table

    def explain(self, histories: Histories, encoded: sp.csr_matrix, items: np.ndarray) -> np.ndarray:
        """Return the history item j of the largest table[j, i] above zero."""
        check_items(items, self.n_items)
        sources = np.zeros(items.shape, np.int32)
        table = self.arrays["indptr"], self.arrays["neighbours"], self.arrays["similarities"]
        _explain(histories.indptr, histories.items, *table, items, sources)
        return sources

    @cached_property
    def table(self) -> sp.csr_matrix:
        """float32 [I, I], over the arrays' own memory."""
        parts = tuple(np.asarray(self.arrays[name]) for name in ("similarities", "neighbours", "indptr"))
        return sp.csr_matrix(parts, shape=(self.n_items, self.n_items))


class ItemKnnModel(ItemTableModel):
    """Item-based k-nearest neighbours: a table of similarities above zero."""

    kind = ITEM_KNN

    def nearest(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (items int32 [I, k], similarities float32 [I, k]): the k nearest of each item, falling, 0-padded."""
        items = np.zeros((self.n_items, k), np.int32)
        similarities = np.zeros((self.n_items, k), np.float32)
        a = self.arrays
        largest_of_rows(a["indptr"], a["neighbours"], a["similarities"], items, similarities)
        return items, similarities


class ItemRidgeModel(ItemTableModel):
    """Ridge regression of each item on its neighbours: weights of either sign, so a history can lower a score."""

    kind = ITEM_RIDGE


class ContentModel(ItemTableModel):
    """Similarities of title, text and categories. It also scores items without interactions."""

    kind = CONTENT


@compiled
def _explain(indptr, histories, starts, neighbours, similarities, items, sources):  # type: ignore[no-untyped-def]
    """Fill sources int32 [B, C], which is zero. Binary search of each item in the rows of the history items."""
    for user in range(len(items)):
        for c in range(items.shape[1]):
            item, most = items[user, c], np.float32(0)
            if item == PADDING_ITEM:
                continue
            for at in range(indptr[user], indptr[user + 1]):
                row, end = starts[histories[at]], starts[histories[at] + 1]
                x = row + np.searchsorted(neighbours[row:end], item)
                if x < end and neighbours[x] == item and similarities[x] > 0 and similarities[x] >= most:
                    sources[user, c], most = histories[at], similarities[x]
