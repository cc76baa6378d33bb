"""`top_k`: the k best items of a batch of users by one model. It chooses the method by the kind of model.

Shapes:  B users of a batch · I items, counting the padding item 0 · k length of a list
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_spark.errors import ContractViolation
from recsys_spark.models.base import ItemModel, SparseModel
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.topk import inner_product, sparse
from recsys_spark.topk.exclusions import Exclusions
from recsys_spark.topk.selection import TopK

USERS = 256
"""Users scored at a time: with a tile of 1,024 items their scores take 1 MiB, which stays in a processor's cache."""


def top_k(
    model: ItemModel, encoded: Any, exclusions: Exclusions, k: int, tile: int, device: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best items of each user without exclusions, by (-score, item): items int32 [B, k], scores float32.

    `encoded` is `model.encode(histories)`. `tile` is the number of items scored at a time. `device` is torch's name of
    a GPU, or None for the processor; inner products alone use it. A list with fewer than k items ends in item 0 with
    score -inf. Raises `ContractViolation` when a score is NaN.
    """
    try:
        if isinstance(model, InnerProductModel):
            if device:
                from recsys_spark.topk import gpu  # imports torch

                return gpu.top_k(model, encoded, exclusions, k, device)
            return inner_product.top_k(model, encoded, exclusions, k, tile, USERS)
        if isinstance(model, SparseModel):
            return sparse.top_k(model, encoded, exclusions, k)
        return _by_tiles(model, encoded, exclusions, k, tile)
    except ContractViolation as error:
        raise ContractViolation(
            f"item model {model.kind!r} {error}; run the stage that writes it again with --force"
        ) from None


def _by_tiles(
    model: ItemModel, encoded: Any, exclusions: Exclusions, k: int, tile: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score all items, tile by tile."""
    top = TopK(exclusions, k)
    for start in range(0, model.n_items, tile):
        items = np.arange(start, min(start + tile, model.n_items), dtype=np.int32)
        for first in range(0, len(exclusions), USERS):
            users = np.arange(first, min(first + USERS, len(exclusions)))
            scores = model.score_tile(encoded[first : first + USERS], start, start + len(items))
            top.offer(np.ascontiguousarray(scores), users, items)
    return top.lists()
