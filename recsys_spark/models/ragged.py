"""Arithmetic on ragged rows: rows of different lengths, stored one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return int64: the concatenation of the ranges start, start + 1, … of the given lengths."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def select_rows(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (indptr int64 of the selected rows, positions int64 of their entries). `indptr` bounds all rows."""
    lengths = np.diff(indptr)[rows]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), ranges(indptr[rows], lengths)


def cuts(sizes: np.ndarray, limit: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges (start, stop) whose sizes sum to at most `limit`. A larger size gets its own range."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield start, stop
        start = stop
