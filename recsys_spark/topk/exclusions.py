"""Items that a user's list must not hold: banned items, and the items of the user's own history."""

from __future__ import annotations

from copy import copy

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.models.histories import Histories


class Exclusions:
    """Exclusions of B users.

    `banned` bool [I] holds for every user and includes the padding item. `seen` int32 [T] are the history items,
    ascending within each user; user b's lie from indptr[b] to indptr[b + 1], int64 [B+1].
    """

    def __init__(self, banned: np.ndarray, histories: Histories):
        self.banned = banned.copy()
        self.banned[PADDING_ITEM] = True
        self.indptr = histories.indptr
        owner = np.repeat(np.arange(len(histories), dtype=np.int64), histories.lengths())
        keys = np.sort(owner << 32 | histories.items)
        self.seen = (keys & 0xFFFFFFFF).astype(np.int32)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def rows(self, start: int, stop: int) -> Exclusions:
        """Return the exclusions of users start:stop, sharing memory."""
        part = copy(self)
        part.indptr = self.indptr[start : stop + 1]
        return part
