"""Bounded heaps that keep the k best of all scores offered to each user, and the ranking of explicit candidates.

A heap holds keys (`models/heap.py`): uint64 numbers in the order of the list, so ties go to the lower item. The least
key is the root. A score below the root's score, the floor, costs one comparison, of which a processor does many at
once.

Shapes:  B users · W scores offered at a time · k length of a list · C candidates of a user
"""

from __future__ import annotations

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.errors import ContractViolation
from recsys_spark.jit import compiled
from recsys_spark.models.heap import item_of, key_of, score_of
from recsys_spark.topk.exclusions import Exclusions

_BLOCK = 64
"""Scores compared with the floor at once."""


class TopK:
    """The k best items of each of B users that are not excluded."""

    def __init__(self, exclusions: Exclusions, k: int):
        self.exclusions = exclusions
        self.keys = np.zeros((len(exclusions), k), np.uint64)
        self.counts = np.zeros(len(exclusions), np.int64)
        self.floors = np.full(len(exclusions), -np.inf, np.float32)
        """float32 [B]: the k-th best score so far, -inf until there are k."""

    def offer(self, scores: np.ndarray, users: np.ndarray, items: np.ndarray) -> None:
        """Offer scores float32 [b, W] of users int64 [b] and items int32 [W]. Raises `ContractViolation` for NaN."""
        e = self.exclusions
        is_nan = _offer(scores, users, items, e.banned, e.indptr, e.seen, self.keys, self.counts, self.floors)
        if is_nan:
            raise ContractViolation(
                f"gives NaN scores to {int(np.isnan(scores).sum())} of {scores.size} (user, item) pairs"
            )

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """Return items int32 [B, k] and descending scores float32 [B, k]. Missing places have item 0 and score -inf."""
        items = np.full(self.keys.shape, PADDING_ITEM, np.int32)
        scores = np.full(self.keys.shape, -np.inf, np.float32)
        _sort(self.keys, self.counts, items, scores)
        return items, scores


def rank_candidates(items: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of items int32 [B, C] by scores float32 [B, C], as `TopK.lists` does. Item 0 is padding."""
    real = (items != PADDING_ITEM) & ~np.isneginf(scores)
    falling = np.where(real, scores, -np.inf)
    order = np.lexsort((np.where(real, items, np.iinfo(np.int32).max), -falling), axis=1)[:, :k]
    kept = np.take_along_axis(real, order, axis=1)
    top_items = np.where(kept, np.take_along_axis(items, order, axis=1), np.int32(PADDING_ITEM))
    top_scores = np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))
    missing = ((0, 0), (0, max(k - items.shape[1], 0)))
    return np.pad(top_items, missing), np.pad(top_scores, missing, constant_values=-np.inf)


@compiled
def _offer(scores, users, items, banned, indptr, seen, keys, counts, floors):  # type: ignore[no-untyped-def]
    """Return whether a score is NaN."""
    width = len(items)
    for row in range(len(users)):
        user = users[row]
        line, floor = scores[row], floors[user]
        history = seen[indptr[user] : indptr[user + 1]]
        for start in range(0, width, _BLOCK):
            block = line[start : min(start + _BLOCK, width)]
            if not _any_reaches(block, floor):
                continue
            for at in range(len(block)):
                score, item = block[at], items[start + at]
                if score != score:
                    return True
                if score < floor or banned[item]:
                    continue
                place = np.searchsorted(history, item)
                if place < len(history) and history[place] == item:
                    continue
                counts[user] = _push(keys[user], counts[user], key_of(score, item))
                if counts[user] == keys.shape[1]:
                    floor = score_of(keys[user, 0])
        floors[user] = floor
    return False


@compiled
def _any_reaches(block, floor):  # type: ignore[no-untyped-def]
    """Return whether a score is not below the floor, or NaN. Without a branch, so that it is vectorised."""
    reached = np.int32(0)
    for at in range(len(block)):
        reached |= np.int32(0 if block[at] < floor else 1)
    return reached != 0


@compiled
def _push(heap, count, key):  # type: ignore[no-untyped-def]
    """Push a key on a binary min-heap of bounded size; the least key falls out of a full one. Returns the new count."""
    if count < len(heap):
        child = count
        while child > 0 and heap[(child - 1) // 2] > key:
            heap[child] = heap[(child - 1) // 2]
            child = (child - 1) // 2
        heap[child] = key
        return count + 1
    if key <= heap[0]:
        return count
    parent, child = 0, 1
    while child < count:
        if child + 1 < count and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[parent] = heap[child]
        parent, child = child, 2 * child + 1
    heap[parent] = key
    return count


@compiled
def _sort(keys, counts, items, scores):  # type: ignore[no-untyped-def]
    for user in range(len(keys)):
        for place, key in enumerate(np.sort(keys[user, : counts[user]])[::-1]):
            items[user, place], scores[user, place] = item_of(key), score_of(key)
