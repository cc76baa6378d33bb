"""Ranker features that do not come from the models: popularity, the length of the history, and shared categories.

The ranker sees them beside the models' scores, when it is fitted and when it ranks.

Shapes:  B users of a batch · C categories · R candidates, each with its user
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_spark.metrics.categories import Categories
from recsys_spark.metrics.popularity_bias import mean_by_user
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories

NAMES = ("segment_popularity", "popularity", "history_length", "history_popularity", "category_share")


@dataclass(frozen=True)
class UserItemFeatures:
    """The features of B users and any items, by `NAMES`:

    - segment_popularity: the item's score by the popularity model in the user's segment, or overall without a segment
    - popularity: the item's score by the popularity model over all users
    - history_length: the number of items in the user's history
    - history_popularity: the mean popularity of the history's items
    - category_share: the share of the history's items that have a category of the item, averaged over its categories
    """

    lengths: np.ndarray
    """int64 [B]: items in each history."""
    categories: Categories
    category_counts: sp.csr_matrix
    """float32 [B, C]: the history items of each user that have each category."""
    popularity: ItemModel | None
    with_segment: Any
    without_segment: Any
    """The users as the popularity model encodes them, with their segment and without."""
    mean_popularity: np.ndarray
    """float64 [B]."""

    @classmethod
    def of(cls, histories: Histories, popularity: ItemModel, categories: Categories) -> UserItemFeatures:
        """Prepare the features of the users of `histories`. `popularity` is the item model of that name."""
        without_segment = popularity.encode(replace(histories, segments=[None] * len(histories)))
        user = np.repeat(np.arange(len(histories)), histories.lengths())
        shares = _popularity(popularity, without_segment[user], histories.items)
        ones = np.ones(len(histories.items), np.float32)
        shape = (len(histories), categories.matrix.shape[0])
        counts = sp.csr_matrix((ones, histories.items, histories.indptr), shape=shape) @ categories.matrix
        return cls(
            lengths=histories.lengths(),
            categories=categories,
            category_counts=counts,
            popularity=popularity,
            with_segment=popularity.encode(histories),
            without_segment=without_segment,
            mean_popularity=np.nan_to_num(mean_by_user(histories.indptr, shares)),
        )

    def without_popularity(self) -> UserItemFeatures:
        """Return features whose popularity is 0, for a fusion without the popularity model."""
        return replace(self, popularity=None, mean_popularity=np.zeros(len(self.lengths)))

    def __call__(self, items: np.ndarray, user: np.ndarray) -> np.ndarray:
        """Return float32 [len(NAMES), R], the features of `items` int32 [R] for the users `user` int64 [R]."""
        features = np.zeros((len(NAMES), len(items)), np.float32)
        if self.popularity:
            features[0] = _popularity(self.popularity, self.with_segment[user], items)
            features[1] = _popularity(self.popularity, self.without_segment[user], items)
        features[2] = self.lengths[user]
        features[3] = self.mean_popularity[user]
        shared = self.category_counts[user].multiply(self.categories.matrix[items]).sum(axis=1)
        pairs = np.diff(self.categories.indptr)[items] * self.lengths[user]
        features[4] = np.asarray(shared).ravel() / np.maximum(pairs, 1)
        return features


def _popularity(model: ItemModel, encoded: Any, items: np.ndarray) -> np.ndarray:
    """Return float32 [R]: the score of each item for the encoded user in the same place."""
    return np.asarray(model.score_items(encoded, items[:, None])[:, 0])
