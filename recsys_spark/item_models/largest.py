"""The k largest of many scores above zero, ties to the smaller item, as compiled loops.

A score and its item become one int64, an entry, whose order is that of a list turned round: by score, then by falling item. So no two
are equal, and any number of equal scores is no special case.
"""

from __future__ import annotations

import numpy as np

from recsys_spark.compiled import compiled

ROOM = 2
"""A buffer of ROOM * k entries is cut to its k largest whenever it is full: rarely, as what comes then must exceed the least of these."""
_ITEM = 0x7FFFFFFF
_DIGIT = 255


@compiled
def entry(score: np.float32, item: int) -> np.int64:
    """int64 of a score >= 0 and an item: the bits of such floats have the order of the floats."""
    return np.int64((np.int64(np.float32(score).view(np.int32)) << 32) | np.int64(_ITEM - item))


@compiled
def item_of(found: int) -> int:
    """The item of an entry."""
    return _ITEM - (found & _ITEM)


@compiled
def score_of(found: int) -> np.float32:
    """The float32 score of an entry."""
    return np.int32(found >> 32).view(np.float32)


@compiled
def largest(items: np.ndarray, scores: np.ndarray, size: int, k: int, entries: np.ndarray) -> int:
    """The entries of the k largest scores above zero of items[:size] (int32, all different) with scores[:size] (float32), in any order.

    They come first in `entries`, int64 of at least ROOM * k; returns how many they are, or -1 when a score is NaN.
    """
    found, least, floor = 0, np.int64(0), np.float32(0)
    for at in range(size):
        score = scores[at]
        if not score < floor:  # a NaN as well
            new = entry(score, items[at])
            if score > 0 and new > least:
                entries[found] = new
                found += 1
                if found == ROOM * k:
                    least = cut(entries, found, k)
                    floor, found = score_of(least), k
            elif np.isnan(score):
                return -1
    if found > k:
        cut(entries, found, k)
    return min(found, k)


@compiled
def cut(entries: np.ndarray, size: int, k: int) -> int:
    """Put the k largest of entries[:size], 1 <= k <= size, first in any order; returns the least of them. Hoare's quickselect."""
    lo, hi = 0, size - 1
    while lo < hi:
        a, b, c = entries[lo], entries[(lo + hi) >> 1], entries[hi]
        pivot = max(min(a, b), min(max(a, b), c))
        left, right = lo, hi
        while left <= right:
            while entries[left] > pivot:
                left += 1
            while entries[right] < pivot:
                right -= 1
            if left <= right:
                entries[left], entries[right] = entries[right], entries[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            hi = right
        elif k - 1 >= left:
            lo = left
        else:
            break
    return entries[k - 1]


@compiled
def ascending(entries: np.ndarray, size: int, n_items: int, items: np.ndarray, spare: np.ndarray) -> None:
    """The items of entries[:size], all below n_items, ascending into items[:size]; `spare` is another such array. Radix sort."""
    for at in range(size):
        items[at] = item_of(entries[at])
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
