"""Item models whose scores are inner products of a user's and an item's vector.

Shapes:  B users of a batch · I items, counting the padding item 0 · C candidates of a user · F length of a vector
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recsys_spark.jit import REORDER, compiled
from recsys_spark.models.base import ItemModel

_ROWS = 1 << 16
"""Vectors whose lengths are computed at a time."""


class InnerProductModel(ItemModel):
    """score(u, i) = x_u . y_i. `encode` returns the users' vectors, float32 [B, F].

    arrays: `items` float32 [I, F], the items' vectors.
    """

    def score_tile(self, encoded: np.ndarray, start: int, stop: int) -> np.ndarray:
        return encoded @ self.vectors[start:stop].T

    def score_items(self, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        scores = np.empty(items.shape, np.float32)
        _score_items(np.ascontiguousarray(encoded), self.vectors, np.ascontiguousarray(items), scores)
        return scores

    @cached_property
    def vectors(self) -> np.ndarray:
        """The items' vectors as a plain array over the same memory: quicker to slice than a memory map."""
        return np.asarray(self.arrays["items"]).view(np.ndarray)

    @cached_property
    def by_length(self) -> tuple[np.ndarray, np.ndarray]:
        """(items int32 [I], longest vector first, and their lengths float32 [I]). A NaN counts as the longest."""
        parts = range(0, len(self.vectors), _ROWS)
        lengths = np.concatenate([np.linalg.norm(self.vectors[lo : lo + _ROWS], axis=1) for lo in parts])
        items = np.argsort(-np.nan_to_num(lengths, nan=np.inf), kind="stable").astype(np.int32)
        return items, lengths[items]


@compiled(fastmath=REORDER)
def _score_items(users, vectors, items, scores):  # type: ignore[no-untyped-def]
    """Fill scores [B, C] without a copy of the candidates' vectors [B, C, F]."""
    for b in range(items.shape[0]):
        for c in range(items.shape[1]):
            vector = vectors[items[b, c]]
            total = np.float32(0)
            for f in range(users.shape[1]):
                total += users[b, f] * vector[f]
            scores[b, c] = total
