"""Explanations of scores that are sums over the history: the history item with the largest term. Item models use it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.models.histories import Histories


def strongest_sources(
    histories: Histories, items: np.ndarray, terms: Callable[[int, slice, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return int32 [B, C]: the history item of the largest term above zero for each of `items` int32 [B, C].

    Of equal terms that of the newest item wins. 0 where no term is above zero, or where the item is 0.
    `terms(user, history, asked)` returns [n, m]: the terms of the n history entries `history` of a user in the scores
    of the m items `asked`.
    """
    sources = np.full(items.shape, PADDING_ITEM, np.int32)
    for user in np.flatnonzero(histories.lengths()):
        history = slice(histories.indptr[user], histories.indptr[user + 1])
        columns = np.flatnonzero(items[user] != PADDING_ITEM)
        if len(columns):
            newest_first = terms(user, history, items[user, columns])[::-1]
            best = newest_first.argmax(axis=0)
            above = newest_first[best, np.arange(len(columns))] > 0
            sources[user, columns] = np.where(above, histories.items[history][::-1][best], PADDING_ITEM)
    return sources
