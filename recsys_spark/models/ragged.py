"""Small arithmetic on rows of unequal length that lie one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: start, start + 1, … of each range of so many numbers, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def taken(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of rows that lie between the numbers of `indptr`, those with these indices: (their indptr int64, int64: where their entries lie)."""
    lengths = np.diff(indptr)[rows]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), ranges(indptr[rows], lengths)


def cuts(sizes: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive (start, stop) of positions whose sizes add up to `limit` at most; one that is larger stands alone."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield start, stop
        start = stop
