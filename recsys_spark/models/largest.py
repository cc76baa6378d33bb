"""The k largest of many scores above zero, ties to the smaller item, as compiled loops over the keys of best.py."""

from __future__ import annotations

import numpy as np

from recsys_spark.jit import compiled
from recsys_spark.models.heap import item_of, key_of, score_of, select

ROOM = 2
"""A buffer of ROOM * k keys is cut to its k largest whenever it is full: rarely, as what comes then must exceed the least of these."""
_DIGIT = 255


@compiled
def largest(items: np.ndarray, scores: np.ndarray, size: int, k: int, keys: np.ndarray) -> int:
    """The keys of the k largest scores above zero of items[:size] (int32, all different) with scores[:size] (float32), in any order.

    They come first in `keys`, uint64 of at least ROOM * k; returns how many they are, or -1 when a score is NaN.
    """
    found, least, floor = 0, np.uint64(0), np.float32(0)
    for at in range(size):
        score = scores[at]
        if not score < floor:  # a NaN as well
            new = key_of(score, items[at])
            if score > 0 and new > least:
                keys[found] = new
                found += 1
                if found == ROOM * k:
                    select(keys, found, k)
                    least = keys[k - 1]
                    floor, found = score_of(least), k
            elif np.isnan(score):
                return -1
    if found > k:
        select(keys, found, k)
    return min(found, k)


@compiled
def ascending(keys: np.ndarray, size: int, n_items: int, items: np.ndarray, spare: np.ndarray) -> None:
    """The items of keys[:size], all below n_items, ascending into items[:size]; `spare` is another such array. Radix sort."""
    for at in range(size):
        items[at] = item_of(keys[at])
    ends = np.empty(_DIGIT + 1, np.int64)
    shift = 0
    while n_items >> shift:
        ends[:] = 0
        for at in range(size):
            ends[(items[at] >> shift) & _DIGIT] += 1
        before = 0
        for digit in range(_DIGIT + 1):
            before, ends[digit] = before + ends[digit], before
        for at in range(size):
            digit = (items[at] >> shift) & _DIGIT
            spare[ends[digit]] = items[at]
            ends[digit] += 1
        items[:size] = spare[:size]
        shift += 8
