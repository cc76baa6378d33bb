"""Inner products of users and items, offered to the lists while they are in the processor's first cache: a product of matrices that is never written.

A tile of items is packed once for all users of a batch, in panels of PANEL items; eight users at a time are multiplied by all of its panels,
and their scores looked at. A score is one chain of fused additions, so it does not depend on the batch or the tile.

Shapes:  B users · I items · F length of a vector · W items of a tile
"""

from __future__ import annotations

import numpy as np

from recsys_spark.compiled import compiled
from recsys_spark.errors import LawBroken
from recsys_spark.item_models.best import CROWDED, NOT_A_NUMBER, Best, offer_row
from recsys_spark.item_models.tiles import LANES, ROWS, WIDE, set_wide_tile

PANEL = WIDE * LANES


def offer_products(best: Best, users: np.ndarray, vectors: np.ndarray, tile: int) -> None:
    """Offer users float32 [B, F] their products with all of `vectors` float32 [I, F], `tile` items at a time. `LawBroken` when one is NaN."""
    padded = np.zeros((-(-len(users) // ROWS) * ROWS, users.shape[1]), np.float32)
    padded[: len(users)] = users
    hidden = best.hidden
    bad = _offer_products(
        padded.ravel(), vectors.ravel(), len(vectors), users.shape[1], -(-tile // PANEL) * PANEL, best.m,
        hidden.banned, hidden.indptr, hidden.seen, best.margins, best.keys, best.counts, best.floors,
    )  # fmt: skip
    if bad >= 0:
        raise LawBroken(f"gives NaN scores to user {bad} of a batch of {len(users)}")


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
