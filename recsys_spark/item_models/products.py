"""Inner products of users and items, offered to the lists while they are in the processor's first cache: a product of matrices that is never written.

A tile of items is packed once for all users of a batch, in panels of PANEL items; eight users at a time are multiplied by all of its panels,
and their scores looked at. A score is one chain of fused additions, so it does not depend on the batch or the tile.

The items that the batch knows best are tried first, to learn a floor below which no score can matter: few of the others are worth a look then.

Shapes:  B users · I items · F length of a vector · W items of a tile · P items tried first · G groups of them
"""

from __future__ import annotations

import numpy as np

from recsys_spark.compiled import compiled
from recsys_spark.errors import LawBroken
from recsys_spark.item_models.best import CROWDED, NOT_A_NUMBER, Best, offer_row
from recsys_spark.item_models.tiles import LANES, ROWS, WIDE, set_wide_tile

PANEL = WIDE * LANES
GROUPS = 4
"""Groups of tried items for each place of a list: of every group the best score counts, so that few are compared."""
TRIED = 16
"""One item of so many is tried."""


def offer_products(best: Best, users: np.ndarray, vectors: np.ndarray, tile: int) -> None:
    """Offer users float32 [B, F] their products with all of `vectors` float32 [I, F], `tile` items at a time. `LawBroken` when one is NaN."""
    padded = np.zeros((-(-len(users) // ROWS) * ROWS, users.shape[1]), np.float32)
    padded[: len(users)] = users
    hidden, width = best.hidden, -(-tile // PANEL) * PANEL
    _raise_floors(best, padded, vectors, width)
    bad = _offer_products(
        padded.ravel(), vectors.ravel(), len(vectors), users.shape[1], width, best.m,
        hidden.banned, hidden.indptr, hidden.seen, best.margins, best.keys, best.counts, best.floors,
    )  # fmt: skip
    if bad >= 0:
        raise LawBroken(f"gives NaN scores to user {bad} of a batch of {len(users)}")


def _raise_floors(best: Best, users: np.ndarray, vectors: np.ndarray, width: int) -> None:
    """Set the floors to just below what is surely reached by m items that are not hidden: of those that stand in most of the histories, some `width`
    at a time. `users` [., F] are whole ROWS."""
    groups = -(-GROUPS * best.m // PANEL) * PANEL
    tried, own = best.hidden.most_had(len(vectors) // TRIED, groups)
    if not len(tried):
        return
    reached = np.full((len(users), groups), -np.inf, np.float32)
    step = max(width // groups, 1) * groups
    for first in range(0, len(tried), step):
        part = vectors[tried[first : first + step]]
        _reach(users.ravel(), part.ravel(), len(part), users.shape[1], reached)
    best.start_above(reached[: len(own)], own)


@compiled
def _reach(users, vectors, n_items, depth, reached):  # type: ignore[no-untyped-def]
    """Raise `reached` [B, G], the best score of each group so far. `users` and `vectors` are flat, of whole ROWS of users and whole groups of items; G is
    a whole number of PANELs."""
    groups = reached.shape[1]
    panels = np.empty(n_items * depth, np.float32)
    _pack(vectors, 0, n_items, depth, panels)
    scores, most = np.empty(ROWS * groups, np.float32), reached.reshape(reached.size)
    for first in range(0, len(reached), ROWS):
        rows = most[first * groups : (first + ROWS) * groups]
        for start in range(0, n_items, groups):
            for at in range(0, groups, PANEL):
                set_wide_tile(
                    np.float32(1), users, first * depth, depth, 1,
                    panels, (start + at) * depth, PANEL, depth, scores, at, groups,
                )  # fmt: skip
            for at in range(len(rows)):
                rows[at] = max(rows[at], scores[at])


@compiled
def _offer_products(  # type: ignore[no-untyped-def]
    users, vectors, n_items, depth, width, m, banned, indptr, seen, margins, keys, counts, floors
):  # fmt: skip
    """`users` and `vectors` are flat, whole ROWS of users. Returns the user who met a NaN, or -1."""
    panels = np.zeros(width * depth, np.float32)
    scores = np.empty((ROWS, width), np.float32)
    flat = scores.reshape(ROWS * width)
    for start in range(0, n_items, width):
        real = min(width, n_items - start)
        _pack(vectors, start, real, depth, panels)
        for first in range(0, len(counts), ROWS):
            for at in range(0, real, PANEL):
                set_wide_tile(
                    np.float32(1), users, first * depth, depth, 1, panels, at * depth, PANEL, depth, flat, at, width
                )  # fmt: skip
            for row in range(min(ROWS, len(counts) - first)):
                user = first + row
                if counts[user] == CROWDED:
                    continue
                n, floor = offer_row(
                    scores[row, :real], start, m, banned, seen[indptr[user] : indptr[user + 1]],
                    margins[user], keys[user], counts[user], floors[user],
                )  # fmt: skip
                if n == NOT_A_NUMBER:
                    return user
                counts[user], floors[user] = n, floor
    return -1


@compiled
def _pack(vectors, start, real, depth, panels):  # type: ignore[no-untyped-def]
    """Vectors of `real` items from `start` on into panels [., depth, PANEL]; what is left of the last panel is of no item and is not looked at."""
    for i in range(real):
        at = (i // PANEL) * PANEL * depth + i % PANEL
        row = (start + i) * depth
        for k in range(depth):
            panels[at + k * PANEL] = vectors[row + k]
