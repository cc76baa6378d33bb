"""Item-item neighbours as an item model: a user's scores are the sum of what each history item says. `stages/baselines/item_knn.py` fits it.

A score is summed in float64, in the order of the history, and rounded once: the same for any batch and tile. A user at a time, so what
a task needs beside the table in its memory map is a row or two of I.

Shapes:  B users of a batch · T history keys of all of them · I items counting the padding item 0 · N neighbours of all items ·
         W items of a tile · C candidates a user · m length of a list
"""

from __future__ import annotations

import numpy as np

from recsys_spark.jit import compiled
from recsys_spark.models import explanations
from recsys_spark.models.base import ItemModel
from recsys_spark.models.heap import Hidden, item_of, score_of
from recsys_spark.models.histories import Histories
from recsys_spark.models.largest import ROOM, largest
from recsys_spark.models.sums import check_items, check_scores, take_best


class ItemTableModel(ItemModel):
    """score(u, i) = sum over the items j of u's history of similarity[j, i]; how often j was chosen does not count.

    arrays: CSR rows of the history item j, ascending by candidate within a row:
    `indptr` int64 [I+1] · `neighbours` int32 [N] · `similarities` float32 [N].
    """

    def encode(self, histories: Histories) -> Histories:
        """The histories themselves. `ValueError` when one holds an item that the table has no row for."""
        check_items(histories.items, self.n_items)
        return histories

    def score_tile(self, encoded: Histories, start: int, stop: int) -> np.ndarray:
        scores = np.empty((len(encoded), stop - start), np.float32)
        _score_tile(encoded.indptr, encoded.items, *self._table(), start, scores)
        return scores

    def score_items(self, encoded: Histories, items: np.ndarray) -> np.ndarray:
        check_items(items, self.n_items)
        scores = np.empty(items.shape, np.float32)
        _score_items(encoded.indptr, encoded.items, *self._table(), items, scores)
        return scores

    def explain(self, histories: Histories, encoded: Histories, items: np.ndarray) -> np.ndarray:
        """The history item j of the largest similarity[j, i]."""
        check_items(items, self.n_items)
        found = np.zeros(items.shape, np.int32)
        explanations.of_neighbours(encoded.indptr, encoded.items, *self._table(), items, found)
        return found

    def rows(self, encoded: Histories, start: int, stop: int) -> Histories:
        return encoded.rows(start, stop)

    def _table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.arrays["indptr"], self.arrays["neighbours"], self.arrays["similarities"]


class NeighbourModel(ItemTableModel):
    """A table of similarities, all above zero."""

    kind = "item_cosine"

    def nearest(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """(items int32 [I, most], similarities float32 [I, most]): of each row the largest by (-similarity, item), 0-padded."""
        items = np.zeros((self.n_items, most), np.int32)
        similarities = np.zeros((self.n_items, most), np.float32)
        _nearest(*self._table(), items, similarities)
        return items, similarities

    def top(self, encoded: Histories, hidden: Hidden, m: int) -> tuple[np.ndarray, np.ndarray]:
        """The time is that of the users' rows of the table, whatever the number of items is; those that no history item knows score 0."""
        items = np.zeros((len(encoded), m), np.int32)
        scores = np.full((len(encoded), m), -np.inf, np.float32)
        _top(encoded.indptr, encoded.items, *self._table(), hidden.banned, items, scores)
        check_scores(scores)
        return items, scores


class ItemRidgeModel(ItemTableModel):
    """A table of weights of either sign: an item that the history speaks against scores below those of which it says nothing.
    `stages/baselines/item_ridge.py` fits it."""

    kind = "item_ridge"


class ContentModel(NeighbourModel):
    """The similarities of items alike in title, text and categories, and so of items that nobody has chosen. `stages/baselines/content.py` fits it."""

    kind = "content"


@compiled
def _nearest(indptr, neighbours, similarities, items, found):  # type: ignore[no-untyped-def]
    most = items.shape[1]
    keys = np.empty(ROOM * most, np.uint64)
    for item in range(len(items)):
        first, last = indptr[item], indptr[item + 1]
        n = largest(neighbours[first:last], similarities[first:last], last - first, most, keys)
        for place, key in enumerate(np.sort(keys[:n])[::-1]):
            items[item, place], found[item, place] = item_of(key), score_of(key)


@compiled
def _score_tile(
    starts: np.ndarray,
    chosen: np.ndarray,
    indptr: np.ndarray,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    start: int,
    scores: np.ndarray,
) -> None:
    """Fill scores [B, W] of the items from `start` on."""
    width = scores.shape[1]
    sums = np.empty(width, np.float64)
    for user in range(len(scores)):
        sums[:] = 0
        for at in range(starts[user], starts[user + 1]):
            row = indptr[chosen[at]]
            ids = neighbours[row : indptr[chosen[at] + 1]]
            lo = np.searchsorted(ids, start)
            hi = lo + np.searchsorted(ids[lo:], start + width)
            for x in range(lo, hi):
                sums[ids[x] - start] += similarities[row + x]
        for i in range(width):
            scores[user, i] = sums[i]


@compiled
def _score_items(
    starts: np.ndarray,
    chosen: np.ndarray,
    indptr: np.ndarray,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Fill scores [B, C] of the items [B, C]."""
    sums = np.zeros(len(indptr) - 1, np.float64)
    for user in range(len(items)):
        history = chosen[starts[user] : starts[user + 1]]
        _add(history, indptr, neighbours, similarities, sums)
        for c in range(items.shape[1]):
            scores[user, c] = sums[items[user, c]]
        if _entries(history, indptr) > len(sums):
            sums[:] = 0
        else:
            for item in history:
                for x in range(indptr[item], indptr[item + 1]):
                    sums[np.uint32(neighbours[x])] = 0


@compiled
def _top(
    starts: np.ndarray,
    chosen: np.ndarray,
    indptr: np.ndarray,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    banned: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Fill items and scores [B, m]."""
    n_items, m = len(indptr) - 1, items.shape[1]
    sums = np.zeros(n_items, np.float64)
    touched = np.empty(n_items + 1, np.int32)
    values = np.empty(n_items, np.float32)
    keys = np.empty(ROOM * m, np.uint64)
    for user in range(len(items)):
        n = 0
        history = chosen[starts[user] : starts[user + 1]]
        if _entries(history, indptr) > n_items:
            # asking each item once costs less than asking each entry whether its item is new
            _add(history, indptr, neighbours, similarities, sums)
            for item in range(n_items):
                touched[n] = item
                n += sums[item] != 0
        else:
            for own in history:
                for x in range(indptr[own], indptr[own + 1]):
                    near = np.uint32(neighbours[x])
                    before = sums[near]
                    after = before + similarities[x]
                    touched[n] = near  # stays there when it is new
                    n += (before == 0) & (after != 0)
                    sums[near] = after
        take_best(sums, touched, n, history, banned, values, keys, items[user], scores[user])


@compiled
def _entries(history: np.ndarray, indptr: np.ndarray) -> int:
    """How many entries the table's rows of `history` have together."""
    n = 0
    for item in history:
        n += indptr[item + 1] - indptr[item]
    return n


@compiled
def _add(
    history: np.ndarray,
    indptr: np.ndarray,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add the table's rows of `history` to `sums` float64 [I], in their order."""
    for item in history:
        for x in range(indptr[item], indptr[item + 1]):
            # no sign, so no place counted from the end
            sums[np.uint32(neighbours[x])] += similarities[x]
