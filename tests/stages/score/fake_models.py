"""A small item model for tests, with many ties: scores are sums of quarters, which float32 holds exactly."""

from __future__ import annotations

import numpy as np

from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories


class FakeModel(ItemModel):
    """score(u, i) = prior[i] + the sum of table[j, i] over the history.

    Scores are views of the model's arrays, as those of a real model may be. A caller must not write into them.
    """

    def __init__(
        self, n_items: int, seed: int = 0, kind: str = "als", levels: int = 5, table: np.ndarray | None = None
    ):
        rng = np.random.default_rng(seed)
        table = rng.integers(0, levels, (n_items, n_items)).astype(np.float32) / 4 if table is None else table
        super().__init__(
            n_items, {}, {"table": table, "prior": rng.integers(0, levels, n_items).astype(np.float32) / 4}
        )
        self.kind = kind

    def encode(self, histories: Histories) -> np.ndarray:
        counts = np.zeros((len(histories), self.n_items), np.float32)
        np.add.at(counts, (np.repeat(np.arange(len(histories)), histories.lengths()), histories.items), 1)
        return (counts @ self.arrays["table"] + self.arrays["prior"]).astype(np.float32)

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        because = np.zeros(items.shape, np.int32)
        for user, history in enumerate(np.split(histories.items, histories.indptr[1:-1])):
            largest = np.zeros(items.shape[1])
            for item in history:
                term = self.arrays["table"][item, items[user]]
                better = (items[user] > 0) & (term > 0) & (term >= largest)
                because[user, better], largest[better] = item, term[better]
        return because

    def score_tile(self, encoded: np.ndarray, start: int, stop: int) -> np.ndarray:
        return encoded[:, start:stop]

    def score_items(self, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.take_along_axis(encoded, items.astype(np.int64), axis=1)


def random_histories(n_users: int, n_items: int, longest: int, seed: int) -> Histories:
    """Histories of 0 … `longest` distinct items."""
    rng = np.random.default_rng(seed)
    longest = min(longest, n_items - 1)
    return Histories.of(
        [list(1 + rng.permutation(n_items - 1)[: rng.integers(0, longest + 1)]) for _ in range(n_users)]
    )
