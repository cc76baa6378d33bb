"""Popularity as an item model: the one that serves users without history. `stages/baselines/popularity.py` fits it.

Shapes:  B users of a batch · S segments · I items, counting the padding item 0 · C candidates of a user
"""

from __future__ import annotations

import numpy as np

from recsys_spark.columns import POPULARITY
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories


class PopularityModel(ItemModel):
    """score(u, i) = the share of i among the interactions of u's segment, smoothed by its share among all.

    arrays: `scores` float32 [S+1, I]. Row 0 is for all users, row s for the s-th of parameters["segments"].
    """

    kind = POPULARITY
    needs_history = False

    def encode(self, histories: Histories) -> np.ndarray:
        """Return int64 [B], each user's row of `scores`: 0 for an unknown segment."""
        rows = {segment: row for row, segment in enumerate(self.parameters["segments"], start=1)}
        return np.array([rows.get(segment, 0) for segment in histories.segments], np.int64)

    def score_tile(self, encoded: np.ndarray, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.arrays["scores"][encoded, start:stop])

    def score_items(self, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.asarray(self.arrays["scores"][encoded[:, None], items])

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return zeros: the score does not depend on the history."""
        return np.zeros(items.shape, np.int32)


def smooth_shares(counts: np.ndarray) -> np.ndarray:
    """Return float32 [S+1, I], `scores` of a PopularityModel, from the counts float64 [S+1, I] of all and each segment.

    Row 0 is p = count / sum of counts. Row s is (count_s + m p) / (sum of count_s + m), with m the number of items
    that have an interaction: a prior of one interaction an item. So a small segment stays close to all users, and a
    segment with m interactions weighs as much as the prior.
    """
    shares_of_all = counts[0] / max(counts[0].sum(), 1e-300)
    prior = np.count_nonzero(counts[0])
    sums = np.maximum(counts.sum(axis=1, keepdims=True) + prior, 1e-300)
    shares = (counts + prior * shares_of_all) / sums
    shares[0] = shares_of_all
    return shares.astype(np.float32)
