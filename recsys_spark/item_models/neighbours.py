"""Item-item neighbours as an item model: a user's scores are the sum of what each history item says. `baselines/item_cosine.py` fits it.

Shapes:  B users of a batch · I items counting the padding item 0 · N neighbours of all items · C candidates a user
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp

from recsys_spark.item_models.base import ItemModel
from recsys_spark.item_models.histories import Histories

DENSE_CELLS = 1 << 24
"""Users × items up to which the scores of a batch are one dense array of 64 MiB, quicker to cut into tiles than a sparse one."""

Encoded: TypeAlias = np.ndarray | sp.csc_matrix


class NeighbourModel(ItemModel):
    """score(u, i) = sum over the items j of u's history of similarity[j, i]; how often j was chosen does not count.

    arrays: CSR rows of the history item j, ascending by candidate within a row:
    `indptr` int64 [I+1] · `neighbours` int32 [N] · `similarities` float32 [N].
    """

    kind = "item_cosine"

    @cached_property
    def table(self) -> sp.csr_matrix:
        """float32 [I, I] over the arrays themselves; memory-mapped ones stay so."""
        parts = (self.arrays["similarities"], self.arrays["neighbours"], self.arrays["indptr"])
        return sp.csr_matrix(parts, shape=(self.n_items, self.n_items), copy=False)

    def encode(self, histories: Histories) -> Encoded:
        """float32 [B, I]: all scores; dense for a small batch, else by columns."""
        ones = np.ones(len(histories.items), np.float32)
        shape = (len(histories), self.n_items)
        scores = sp.csr_matrix((ones, histories.items, histories.indptr), shape=shape) @ self.table
        return scores.toarray() if len(histories) * self.n_items <= DENSE_CELLS else scores.tocsc()

    def score_tile(self, encoded: Encoded, start: int, stop: int) -> np.ndarray:
        return _dense(encoded[:, start:stop])

    def score_items(self, encoded: Encoded, items: np.ndarray) -> np.ndarray:
        return _dense(encoded[np.arange(len(items))[:, None], items])


def _dense(scores: Encoded) -> np.ndarray:
    return scores if isinstance(scores, np.ndarray) else scores.toarray(order="C")
