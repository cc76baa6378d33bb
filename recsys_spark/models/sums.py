"""What the models of neighbours share: sums over a few of the items, and a user's list out of them.

Shapes:  I items counting the padding item 0 · m length of a list
"""

from __future__ import annotations

import numpy as np

from recsys_spark.errors import LawBroken
from recsys_spark.jit import compiled
from recsys_spark.models.heap import item_of, score_of
from recsys_spark.models.largest import largest


def check_items(items: np.ndarray, n_items: int) -> None:
    """`ValueError` for an item that is none of the model's: the compiled loops look no item up before they use it."""
    if items.size and not 0 <= items.min() <= items.max() < n_items:
        raise ValueError(f"items {items.min()}..{items.max()} are not all in the table of {n_items} items")


def check_scores(scores: np.ndarray) -> None:
    """`LawBroken` when a list has a NaN; scores float32 [B, m] of B users."""
    if np.isnan(scores).any():
        raise LawBroken(f"gives NaN scores to {int(np.isnan(scores).any(axis=1).sum())} of {len(scores)} users")


@compiled
def take_best(
    sums: np.ndarray,
    touched: np.ndarray,
    n: int,
    history: np.ndarray,
    banned: np.ndarray,
    values: np.ndarray,
    keys: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
) -> None:
    """One user's list, items int32 [m] and scores float32 [m], by (-score, item); all NaN when a sum is.

    `sums` float64 [I] is zero but for touched[:n], and all zero afterwards; `values` float32 [I] and `keys` uint64 [ROOM * m] are scratch. Items
    without a sum score 0, and where there is room for them the first ones that are allowed are listed. What is left of the list stays as it was.
    """
    sums[history] = 0
    for x in range(n):
        values[x] = 0 if banned[touched[x]] else sums[touched[x]]
        sums[touched[x]] = 0
    found = largest(touched, values, n, len(items), keys)
    if found < 0:
        scores[:] = np.nan
        return
    keys[:found].sort()
    for x in range(found):
        items[x] = item_of(keys[found - 1 - x])
        scores[x] = score_of(keys[found - 1 - x])
    if found < len(items):
        _fill(history, banned, sums, items, scores, found)


@compiled
def _fill(
    history: np.ndarray,
    banned: np.ndarray,
    marks: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
    found: int,
) -> None:
    """Continue a list, where all items that score are already, with the first allowed others; `marks` is zero before and after."""
    listed = items[:found].copy()
    marks[0] = 1
    marks[history] = 1
    marks[listed] = 1
    for item in range(len(marks)):
        if found == len(items):
            break
        if marks[item] == 0 and not banned[item]:
            items[found], scores[found] = item, 0
            found += 1
    marks[0] = 0
    marks[history] = 0
    marks[listed] = 0
