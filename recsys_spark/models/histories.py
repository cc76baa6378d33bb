"""A batch of users as every item model reads them: ragged lists of items with times and weights.

Shapes:  B users · T history entries of all of them · L window length · I items counting the padding item 0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_spark.columns import EVENT_TS, ITEM_IDX, SEGMENT, WEIGHT
from recsys_spark.models.ragged import select_rows

RECENCY_BUCKETS = 24
"""Number of recency buckets. 0 is padding; b >= 1 holds gaps g to the newest item with floor(log2(1 + g)) = b - 1,
g in minutes. The last bucket holds all larger gaps."""


@dataclass(frozen=True)
class Histories:
    """Histories of B users, oldest item first. Items are distinct within a user.

    indptr int64 [B+1] · items int32 [T] · times int64 [T] seconds, 0 without times · weights float32 [T] · segments
    list[str | None] [B]
    """

    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray
    weights: np.ndarray
    segments: list[str | None]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @classmethod
    def of(
        cls,
        lists: list[list[int]],
        times: list[list[int]] | None = None,
        weights: list[list[float]] | None = None,
    ) -> Histories:
        """Return histories made of Python lists, for tests and examples."""
        indptr = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int64)
        total = int(indptr[-1])
        flat = np.fromiter((i for row in lists for i in row), np.int32, total)
        seconds = (
            np.fromiter((t for row in times for t in row), np.int64, total) if times else np.zeros(total, np.int64)
        )
        ones = (
            np.fromiter((w for row in weights for w in row), np.float32, total)
            if weights
            else np.ones(total, np.float32)
        )
        return cls(indptr, flat, seconds, ones, [None] * len(lists))

    @classmethod
    def from_arrow(cls, batch: Any) -> Histories:
        """Return the histories of an Arrow record batch, or a one-chunk table, of the table `histories`."""
        names = batch.schema.names
        columns = {name: batch.column(names.index(name)) for name in (ITEM_IDX, EVENT_TS, WEIGHT, SEGMENT)}
        columns = {name: c.combine_chunks() if hasattr(c, "combine_chunks") else c for name, c in columns.items()}
        offsets = np.asarray(columns[ITEM_IDX].offsets, dtype=np.int64)
        # flatten() drops the values before a sliced array's first offset, so the offsets must start at 0 too
        flat = {name: np.asarray(columns[name].flatten()) for name in (ITEM_IDX, EVENT_TS, WEIGHT)}
        return cls(offsets - offsets[0], flat[ITEM_IDX], flat[EVENT_TS], flat[WEIGHT], columns[SEGMENT].to_pylist())

    def lengths(self) -> np.ndarray:
        """Return int64 [B], the number of history items of each user."""
        return np.diff(self.indptr)

    def rows(self, start: int, stop: int) -> Histories:
        """Return users start:stop, sharing memory with this batch."""
        stop = min(stop, len(self))
        lo, hi = int(self.indptr[start]), int(self.indptr[stop])
        return Histories(
            self.indptr[start : stop + 1] - lo,
            self.items[lo:hi],
            self.times[lo:hi],
            self.weights[lo:hi],
            self.segments[start:stop],
        )

    def take(self, rows: np.ndarray) -> Histories:
        """Return a copy of the users `rows`, int [B']."""
        indptr, at = select_rows(self.indptr, rows)
        return Histories(indptr, self.items[at], self.times[at], self.weights[at], [self.segments[r] for r in rows])

    def batches(self, size: int) -> Iterator[Histories]:
        """Yield consecutive batches of at most `size` users."""
        for start in range(0, len(self), size):
            yield self.rows(start, start + size)

    def choices(self, n_items: int) -> sp.csr_matrix:
        """Return float32 [B, I]: 1 for each history item. Weights do not count."""
        ones = np.ones(len(self.items), np.float32)
        return sp.csr_matrix((ones, self.items, self.indptr), shape=(len(self), n_items))

    def last(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (items, recency) of the newest `length` items, both int32 [B, length], right-aligned and 0-padded."""
        lengths = np.minimum(self.lengths(), length)
        rows = np.repeat(np.arange(len(self)), lengths)
        # distance from the user's end: lengths[user] for the oldest entry taken, 1 for the newest
        back = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(rows))
        source = self.indptr[1:][rows] - back
        items = np.zeros((len(self), length), np.int32)
        recency = np.zeros((len(self), length), np.int32)
        items[rows, length - back] = self.items[source]
        newest = self.times[self.indptr[1:][rows] - 1]
        recency[rows, length - back] = recency_buckets(newest - self.times[source])
        return items, recency


def recency_buckets(gap_seconds: np.ndarray) -> np.ndarray:
    """Return int32 buckets from 1 to RECENCY_BUCKETS - 1 of gaps in seconds. A negative gap counts as 0."""
    minutes = np.maximum(gap_seconds, 0) // 60
    return (1 + np.minimum(np.floor(np.log2(1.0 + minutes)), RECENCY_BUCKETS - 2)).astype(np.int32)
