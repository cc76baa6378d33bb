"""Selects the k largest scores of a row, as numba loops. Fits of neighbours and searches of lists use it.

A (score, item) pair is one uint64 key whose order is that of a list: by score, and the lower item first among equals.

Shapes:  N scores of a row · k largest
"""

from __future__ import annotations

import numpy as np

from recsys_spark.jit import compiled

_SIGN = np.uint32(0x80000000)
_ITEM = np.uint64(0xFFFFFFFF)


@compiled(inline=True)
def key_of(score, item):  # type: ignore[no-untyped-def]
    """Return the key of a float32 score and an item. Floats of either sign are ordered by their bits."""
    word = np.uint32(0) if score == 0 else np.float32(score).view(np.uint32)  # 0.0 and -0.0 are equal
    rising = np.uint32(~word if word & _SIGN else word | _SIGN)
    return (np.uint64(rising) << np.uint64(32)) | (_ITEM - np.uint64(item))


@compiled
def item_of(key):  # type: ignore[no-untyped-def]
    """Return the item of a key."""
    return np.int32(_ITEM - (key & _ITEM))


@compiled
def score_of(key):  # type: ignore[no-untyped-def]
    """Return the float32 score of a key."""
    rising = np.uint32(key >> np.uint64(32))
    return np.uint32(rising ^ _SIGN if rising & _SIGN else ~rising).view(np.float32)


@compiled
def largest(items, scores, size, k, keys):  # type: ignore[no-untyped-def]
    """Put the keys of the k largest scores above zero of items[:size] into `keys` uint64 [k], in any order.

    The items are distinct int32, the scores float32. Returns the number of keys.
    """
    found = np.empty(size, np.uint64)
    n = 0
    for at in range(size):
        if scores[at] > 0:
            found[n] = key_of(scores[at], items[at])
            n += 1
    if n > k:
        keys[:k] = np.partition(found[:n], n - k)[n - k :]
        return k
    keys[:n] = found[:n]
    return n


@compiled
def largest_of_rows(indptr, columns, values, items, scores):  # type: ignore[no-untyped-def]
    """Fill items int32 and scores float32 [rows, k] with the k largest values above zero of each CSR row, falling.

    Places without a value keep what they hold.
    """
    k = items.shape[1]
    keys = np.empty(k, np.uint64)
    for row in range(len(items)):
        first, last = indptr[row], indptr[row + 1]
        n = largest(columns[first:last], values[first:last], last - first, k, keys)
        for place, key in enumerate(np.sort(keys[:n])[::-1]):
            items[row, place], scores[row, place] = item_of(key), score_of(key)
