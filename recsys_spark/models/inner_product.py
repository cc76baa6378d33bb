"""Scores that are inner products of user and item vectors: fast by the tile, and exactly rounded pair by pair.

A product of matrices sums in an order that depends on its shape, so that the last bits of a score depend on who else is in the batch. Which items
can be among the best is decided by such products, with their margin of error; the order of these few is decided by `pair_scores`, which
is the same for every batch, tile and thread.

Shapes:  B users · I items · C candidates a user · F length of a vector
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from recsys_spark.jit import REORDER, compiled
from recsys_spark.models.base import ItemModel
from recsys_spark.models.llvm import LANES

BFLOAT16, FLOAT32, FLOAT64 = 2.0**-8, 2.0**-24, 2.0**-53
"""How far each may be from a number, as a share of it."""
LEAST = 2.0**-149
"""The least float32 above zero: what becomes smaller is off by up to half of it."""
BY_LENGTH = ("by_length", "longest")
"""Under which a saved model has what the function `by_length` gives."""
ROWS = 1 << 16
"""Vectors whose norms are taken at a time."""


class InnerProductModel(ItemModel):
    """score(u, i) = x_u . y_i; `encode` gives the users' vectors, float32 [B, F].

    arrays: `items` float32 [I, F], the items' vectors; of a model that was saved, BY_LENGTH too.
    """

    def score_tile(self, encoded: np.ndarray, start: int, stop: int) -> np.ndarray:
        return encoded @ self.vectors[start:stop].T

    def score_items(self, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        return pair_scores(encoded, self.vectors, items)

    def margins(self, encoded: np.ndarray) -> np.ndarray:
        return margins(encoded, self.largest)

    @cached_property
    def by_length(self) -> tuple[np.ndarray, np.ndarray]:
        """As the function of this name, of the items' vectors."""
        rows, longest = (np.asarray(self.arrays.get(name, ())) for name in BY_LENGTH)
        # not saved, or by another version
        if len(rows) != len(self.vectors) or len(longest) != -(-len(rows) // LANES):
            return by_length(self.vectors)
        return rows.view(np.ndarray), longest.view(np.ndarray)

    def written(self) -> dict[str, np.ndarray]:
        return {**self.arrays, **dict(zip(BY_LENGTH, self.by_length, strict=True))}

    @cached_property
    def vectors(self) -> np.ndarray:
        """The items' vectors as a plain array over the same memory, which is quicker to slice than a memory map."""
        return np.asarray(self.arrays["items"]).view(np.ndarray)

    @cached_property
    def largest(self) -> float:
        """What none of them is longer than; NaN where one has a NaN."""
        return float(self.by_length[1][0])


def pair_scores(users: np.ndarray, table: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32 [B, C]: users[b] . table[items[b, c]], summed in float64 and rounded once. All float32; items int32."""
    scores = np.empty(items.shape, np.float32)
    _pair_scores(np.ascontiguousarray(users), np.asarray(table), np.ascontiguousarray(items), scores)
    return scores


def margins(users: np.ndarray, largest: float) -> np.ndarray:
    """float32 [B]: how far apart a float32 product and `pair_scores` can put two items of a user, no item vector being longer than `largest`. Zero only where
    all products are zero.

    The one rounding of `pair_scores` to float32 is the rounding of `apart`.
    """
    lengths, depth = largest * np.linalg.norm(users.astype(np.float64), axis=1), users.shape[1]
    return up(np.where(lengths == 0, 0, apart(lengths, depth, FLOAT32) + depth * LEAST))


def up(numbers: np.ndarray) -> np.ndarray:
    """float32, not below the float64 `numbers`, none of them negative; zero stays zero."""
    return np.nextafter(numbers.astype(np.float32), np.where(numbers > 0, np.inf, numbers), dtype=np.float32)


def apart(lengths: Any, depth: int, unit: float) -> Any:
    """How far apart two sums of `depth` products can be that are right but for rounding, each rounded once more; `lengths` (an array or a tensor) are |u| |v|.

    A sum errs by depth unit |u| |v| at most (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1), the rounding by
    unit |u| |v|; either of two may be off by both. A tenth is for the terms of higher order.
    """
    return 2.2 * (depth + 1) * unit * lengths


def by_length(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `table` [I, F], which may be memory-mapped, longest first: (rows int32 [I], float32 [I / LANES, rounded up]: what no row from each LANES of them
    on is longer than). What has a NaN counts as longer than anything, and its length is NaN."""
    lengths = np.concatenate(
        [
            up(np.sqrt(np.square(table[lo : lo + ROWS], dtype=np.float64).sum(axis=1)))
            for lo in range(0, len(table), ROWS)
        ]
    )
    bits = lengths.view(np.uint32)  # of numbers above zero, they are in their order
    rows = np.argsort(~bits, kind="stable").astype(np.int32)
    return rows, lengths[rows[::LANES]]


@compiled(fastmath=REORDER)
def _pair_scores(users, table, items, scores):  # type: ignore[no-untyped-def]
    for b in range(items.shape[0]):
        user = users[b]
        for c in range(items.shape[1]):
            vector = table[items[b, c]]
            total = np.float64(0)
            for f in range(user.shape[0]):
                total += np.float64(user[f]) * np.float64(vector[f])
            scores[b, c] = total
