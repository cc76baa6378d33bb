"""What is known of users and items beside what the models say of them: what a ranker is told besides. Numpy only.

Shapes:  B users of a batch · R candidates of some of them, those of a user one after the other
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_spark.jit import compiled
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories

NAMES = ("popularity", "popularity_everywhere", "history", "history_popularity", "category_share")
"""The item's share of the training pairs in the user's segment (everybody's, without one) and everybody's; the length of the history and the mean of
everybody's shares of its items; the share of the history that has a category of the item, the mean over its categories (0 without any)."""


@dataclass(frozen=True)
class Traits:
    """Of the users of `histories`: `popular` float32 [B] is the mean popularity of each history; `own` and `everybodys` are the users to `popularity`, the item
    model of that name, in their segments and in none."""

    histories: Histories
    categories: Categories
    popularity: ItemModel | None
    own: Any
    everybodys: Any
    popular: np.ndarray

    @classmethod
    def of(cls, histories: Histories, popularity: ItemModel, categories: Categories) -> Traits:
        own = popularity.encode(histories)
        everybodys = popularity.encode(replace(histories, segments=[None] * len(histories)))
        user = np.repeat(np.arange(len(histories)), histories.lengths())
        shares = _shares(popularity, everybodys[user], histories.items)
        return cls(histories, categories, popularity, own, everybodys, _means(histories.indptr, shares))

    def without_popularity(self) -> Traits:
        """As if nothing were popular."""
        return replace(self, popularity=None, popular=np.zeros_like(self.popular))

    def __call__(self, items: np.ndarray, user: np.ndarray) -> np.ndarray:
        """float32 [len(NAMES), R] of `items` int32 [R] for the users `user` int64 [R]. What is said of a row depends on its item and its user's history
        alone."""
        told, histories = self.categories, self.histories
        found = np.zeros((len(NAMES), len(items)), np.float32)
        if self.popularity:
            found[0] = _shares(self.popularity, self.own[user], items)
            found[1] = _shares(self.popularity, self.everybodys[user], items)
        found[2] = histories.lengths()[user]
        found[3] = self.popular[user]
        _category_shares(histories.indptr, histories.items, told.indptr, told.codes, told.count, items, user, found[4])
        return found


def _shares(popularity: ItemModel, encoded: Any, items: np.ndarray) -> np.ndarray:
    return np.asarray(popularity.score_items(encoded, items[:, None])[:, 0])


@compiled
def _means(indptr, values):  # type: ignore[no-untyped-def]
    """float32 [B]: of each user's values, 0 without any."""
    found = np.zeros(len(indptr) - 1, np.float32)
    for user in range(len(found)):
        total = 0.0
        for at in range(indptr[user], indptr[user + 1]):
            total += values[at]
        found[user] = total / max(indptr[user + 1] - indptr[user], 1)
    return found


@compiled
def _category_shares(indptr, history, firsts, codes, count, items, user, found):  # type: ignore[no-untyped-def]
    had, last = np.zeros(count, np.int64), -1
    for row in range(len(items)):
        own, item = user[row], items[row]
        if own != last:
            if last >= 0:
                _count(history[indptr[last] : indptr[last + 1]], firsts, codes, -1, had)
            _count(history[indptr[own] : indptr[own + 1]], firsts, codes, 1, had)
            last = own
        shared = 0
        for code in codes[firsts[item] : firsts[item + 1]]:
            shared += had[code]
        entries = (firsts[item + 1] - firsts[item]) * (indptr[own + 1] - indptr[own])
        found[row] = shared / entries if entries else 0.0


@compiled
def _count(items, firsts, codes, change, had):  # type: ignore[no-untyped-def]
    """Change what is counted of the categories of `items`."""
    for item in items:
        for code in codes[firsts[item] : firsts[item + 1]]:
            had[code] += change
