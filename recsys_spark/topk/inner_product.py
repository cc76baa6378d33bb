"""The k best inner products of users and items: matrix products by tiles, the longest item vectors first.

No product exceeds the lengths of its two vectors, |x . y| <= |x| |y|. So a user is done as soon as their k-th best
score is above |x| times the length of the longest vector that is left (Teflioudi, Gemulla and Mykytiuk, LEMP, SIGMOD
2015). On Gowalla a sixth of the products is left.

Shapes:  B users of a batch · k length of a list · F length of a vector
"""

from __future__ import annotations

import numpy as np

from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.topk.exclusions import Exclusions
from recsys_spark.topk.selection import TopK

_MARGIN = 1 + 1e-5
"""Relative rounding error of a float32 product, with a margin."""


def top_k(
    model: InnerProductModel, users: np.ndarray, exclusions: Exclusions, k: int, tile: int, users_at_once: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists of users float32 [B, F], as `TopK.lists` does."""
    top = TopK(exclusions, k)
    items, lengths = model.by_length
    bounds = np.linalg.norm(users, axis=1) * np.float32(_MARGIN)
    for start in range(0, len(items), tile):
        # "not above" instead of "at most": NaN must be scored, and reported
        active = np.flatnonzero(~(top.floors > bounds * lengths[start]))
        if not len(active):
            break
        part = items[start : start + tile]
        vectors = model.vectors[part].T
        for first in range(0, len(active), users_at_once):
            rows = active[first : first + users_at_once]
            top.offer(users[rows] @ vectors, rows, part)
    return top.lists()
