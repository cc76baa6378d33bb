"""Popularity as an item model: the one that can serve users without history. `stages/baselines/popularity.py` fits it.

Shapes:  B users of a batch · S segments · I items counting the padding item 0 · C candidates a user
"""

from __future__ import annotations

import numpy as np

from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories


class PopularityModel(ItemModel):
    """Shares of the choices, by segment.

    arrays: `scores` float32 [S+1, I], row 0 of everybody, row s of the s-th of parameters["segments"].
    """

    kind = "popularity"
    needs_history = False

    def encode(self, histories: Histories) -> np.ndarray:
        """int64 [B]: each user's row of `scores`; 0 for a segment that is unknown or None."""
        row_of = {segment: row for row, segment in enumerate(self.parameters["segments"], start=1)}
        return np.array([row_of.get(segment, 0) for segment in histories.segments], np.int64)

    def score_tile(self, encoded: np.ndarray, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.arrays["scores"][encoded, start:stop])

    def score_items(self, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.asarray(self.arrays["scores"][encoded[:, None], items])

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """None: what others chose is no matter of the history."""
        return np.zeros(items.shape, np.int32)


def smooth_shares(counts: np.ndarray) -> np.ndarray:
    """float32 [S+1, I]: `scores` of a PopularityModel, from the (decayed) counts float64 [S+1, I] of everybody and of each segment.

    Row 0 is p = count / sum of counts. Row s is (count_s + m p) / (sum of count_s + m): the segment's own shares after m prior
    choices drawn from p, with m = the number of items that were chosen at all. So the prior is one choice an item on average; a
    segment's shares weigh as much as everybody's once it has made that many choices, and k choices of a tiny segment lift an item by k
    average items, which is little beside what the popular ones start from.
    """
    everybody = counts[0] / max(counts[0].sum(), 1e-300)
    prior = np.count_nonzero(counts[0])
    sums = np.maximum(counts.sum(axis=1, keepdims=True) + prior, 1e-300)
    shares = (counts + prior * everybody) / sums
    shares[0] = everybody
    return shares.astype(np.float32)
