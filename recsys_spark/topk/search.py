"""The exact top m items of a batch of users: the inner loop of the score stage; no Spark.

Inner products have a search of their own (topk/products.py). Of other models tiles of items go by, each scored for some users at a time, so that the scores
stay in the processor's cache while the best are picked out of them (models/heap.py). Memory is that of one tile, of the batch and its histories, and of the
lists, whatever the number of items, but for a byte each that says whether it is shown at all, and 16 in a model that finds its lists itself (models/item_knn.py).

Shapes:  B users · I items counting the padding item 0 · m length of a list
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_spark.errors import ContractViolation
from recsys_spark.jit import processor_has
from recsys_spark.models.base import ItemModel
from recsys_spark.models.heap import Best, Hidden, rank_pairs
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.topk.products import offer_products

USERS = 256
"""Users whose scores of a tile are written at a time, by a model that is no inner product: with a tile of 1,024 items, 1 MiB."""
MANY, LEFT = 1 << 22, 0.3
"""Numbers of all item vectors, and the share of products that floors leave to be made, from which on screen.py is the faster one, where the processor has what
it needs: with fewer numbers it gains less than torch costs to import, with fewer products products.py has done them before."""


def top_candidates(
    model: ItemModel, encoded: Any, hidden: Hidden, m: int, tile: int, device: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The m best items of each user that are not hidden, by (-score, item_idx): (items int32 [B, m], scores float32 [B, m]).

    `encoded` is what `model.encode` gave. A user with fewer than m such items has padding items with score -inf at the end. The scores
    are those of `score_items`, and the result is the same for every `tile`, batch and `device` (torch's name of a GPU; None: the processor).
    """
    try:
        found = model.top(encoded, hidden, m)
        return found if found is not None else _by_tiles(model, encoded, hidden, m, tile, device)
    except ContractViolation as error:
        raise ContractViolation(f"item model {model.kind!r} {error}; run the stage that makes it again with --force") from None


def _by_tiles(
    model: ItemModel, encoded: Any, hidden: Hidden, m: int, tile: int, device: str | None
) -> tuple[np.ndarray, np.ndarray]:
    if device and isinstance(model, InnerProductModel):
        from recsys_spark.topk import gpu

        items, scores, unsure = gpu.best_lists(model, encoded, hidden, m, device)
    else:
        best = _offered(model, encoded, hidden, m, tile)
        if best.exact:
            return best.lists()
        pairs, unsure = best.pairs(), best.crowded()
        items, scores = rank_pairs(pairs, model.score_items(encoded, pairs), m)
    for user in unsure:
        items[user], scores[user] = _one_by_one(model, encoded, hidden, m, tile, user)
    return items, scores


def _offered(model: ItemModel, encoded: Any, hidden: Hidden, m: int, tile: int) -> Best:
    if isinstance(model, InnerProductModel):
        return _multiplied(model, encoded, hidden, m, tile)
    best = Best(hidden, m, model.margins(encoded))
    parts = [(lo, model.rows(encoded, lo, min(lo + USERS, len(hidden)))) for lo in range(0, len(hidden), USERS)]
    for start in range(0, model.n_items, tile):
        stop = min(start + tile, model.n_items)
        for first, users in parts:
            best.offer(model.score_tile(users, start, stop), first, start)
    return best


def _multiplied(model: InnerProductModel, users: np.ndarray, hidden: Hidden, m: int, tile: int) -> Best:
    margins = model.margins(users)
    best = Best(hidden, m, margins)
    narrow = model.vectors.size >= MANY and processor_has("amx-bf16")
    if offer_products(best, model, users, LEFT if narrow else 1.0):
        return best
    from recsys_spark.topk import screen  # imports torch, which may not be needed

    best = Best(hidden, m, margins)
    if screen.available() and screen.offer_screened(best, users, model.vectors, tile):
        return best
    best = Best(hidden, m, margins)
    offer_products(best, model, users)
    return best


def _one_by_one(
    model: ItemModel, encoded: Any, hidden: Hidden, m: int, tile: int, user: int
) -> tuple[np.ndarray, np.ndarray]:
    """The list of a user whose scores are so alike that rounding cannot tell them apart, from the exact score of every item."""
    best, own = Best(hidden.rows(user, user + 1), m), model.rows(encoded, user, user + 1)
    for start in range(0, model.n_items, tile):
        items = np.arange(start, min(start + tile, model.n_items), dtype=np.int32)[None, :]
        best.offer(model.score_items(own, items), 0, start)
    items, scores = best.lists()
    return items[0], scores[0]
