"""The sample of users that the fusion is chosen on: every model's scores of their candidates, and their held-out items.

The workers of the score stage write rows of `SCHEMA`. The driver collects them and builds a `Sample`.

Shapes:  M models · U informative users, by ascending user_idx · C candidates of a user, where item 0 is padding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from recsys_spark.columns import ITEM_IDX, POPULARITY, SEGMENT, USER_IDX
from recsys_spark.fusion.blend import METHODS, RRF, among_best, normalise
from recsys_spark.fusion.ranker import RankerInputs
from recsys_spark.fusion.ranker_features import UserItemFeatures
from recsys_spark.hashing import hash64
from recsys_spark.metrics.categories import Categories
from recsys_spark.metrics.ranking import hit_matrix
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories

SCORES, HELD_OUT, HISTORY = "scores", "held_out", "history"
SCHEMA = pa.schema(
    {
        USER_IDX: pa.int64(),
        HISTORY: pa.list_(pa.int32()),
        SEGMENT: pa.string(),
        ITEM_IDX: pa.list_(pa.int32()),
        SCORES: pa.list_(pa.float32()),
        HELD_OUT: pa.list_(pa.int32()),
    }
)
"""One row a user: history, segment, candidates (ascending), scores of them (model by model), held-out items."""


@dataclass(frozen=True)
class Sample:
    """The informative users of the sample: those with a held-out item among their candidates.

    The NDCG of all other users is 0 for any fusion. They count in means, but nothing is kept of them.
    """

    models: tuple[str, ...]
    n_users: int
    """Users of the sample, informative or not."""
    users: np.ndarray
    """int64 [U]: user_idx."""
    held_out: np.ndarray
    """int64 [U]: number of held-out items, candidates or not."""
    items: np.ndarray
    """int32 [U, C]: the candidates, ascending but for padding."""
    scores: np.ndarray
    """float32 [M, U, C]."""
    listed: np.ndarray
    """bool [M, U, C]: whether the candidate is in the model's own list of `depth` items."""
    relevant: np.ndarray
    """bool [U, C]: whether the candidate was held out."""
    user_item: UserItemFeatures
    depth: int
    _normalised: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls, table: pa.Table, models: Sequence[str], popularity: ItemModel, categories: Categories, depth: int
    ) -> Sample:
        """Return the sample of the rows `table` of `SCHEMA`. `popularity` is the item model of that name."""
        table = table.sort_by(USER_IDX).combine_chunks()
        items = _padded(table[ITEM_IDX])
        indptr = np.concatenate([[0], np.cumsum(_lengths(table[HELD_OUT]))])
        relevant = hit_matrix(items[:, None], indptr, _flat(table[HELD_OUT]))[:, 0]
        informative = relevant.any(axis=1)
        n_users, table = len(table), table.filter(pa.array(informative)).combine_chunks()
        items, relevant = items[informative], relevant[informative]
        scores = np.zeros((len(items), len(models), items.shape[1]), np.float32)
        scores[np.broadcast_to((items > 0)[:, None], scores.shape)] = _flat(table[SCORES])
        scores = np.ascontiguousarray(scores.transpose(1, 0, 2))
        ranks = normalise(RRF, scores, items)
        sample = cls(
            models=tuple(models),
            n_users=n_users,
            users=np.asarray(table[USER_IDX], np.int64),
            held_out=_lengths(table[HELD_OUT]),
            items=items,
            scores=scores,
            listed=among_best(ranks, depth),
            relevant=relevant,
            user_item=UserItemFeatures.of(_histories(table), popularity, categories),
            depth=depth,
        )
        sample._normalised[RRF] = ranks
        return sample

    def only(self, models: Sequence[str]) -> Sample:
        """Return the sample for a fusion of `models` alone: their scores, and the candidates that one of them lists."""
        numbers = [self.models.index(name) for name in models]
        kept = self.listed[numbers].any(axis=0)
        return replace(
            self,
            models=tuple(models),
            items=np.where(kept, self.items, 0),
            scores=self.scores[numbers],
            listed=self.listed[numbers],
            relevant=self.relevant & kept,
            user_item=self.user_item if POPULARITY in models else self.user_item.without_popularity(),
        )

    def normalised(self, method: str) -> np.ndarray:
        """Return float32 [M, U, C]: the models' scores, normalised for each user."""
        if method not in self._normalised:
            self._normalised[method] = normalise(method, self.scores, self.items)
        return self._normalised[method]

    def ranker_inputs(self) -> RankerInputs:
        """Return the sample as the ranker reads it."""
        normalised = {method: self.normalised(method) for method in METHODS}
        return RankerInputs(self.models, self.items, normalised, self.user_item, self.depth)

    def mean(self, ndcg: np.ndarray) -> float:
        """Return the mean over all users of the sample, from `ndcg` float64 [U] of the informative ones."""
        return float(ndcg.sum()) / max(self.n_users, 1)

    def over_all_users(self, values: np.ndarray) -> np.ndarray:
        """Return float64 [n_users, ...]: `values` float64 [U, ...], and 0 for every other user."""
        return np.concatenate([values, np.zeros((self.n_users - len(values), *values.shape[1:]))])

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 rows of the users of each half. A hash of user_idx decides, so a user stays in one half in any sample.

        The lowest bit decides, because the sample itself is the users with the lowest hashes.
        """
        odd = hash64(self.users) & 1 == 1
        return np.flatnonzero(~odd), np.flatnonzero(odd)


def _histories(table: pa.Table) -> Histories:
    """Return the histories with times and weights of 0, which no feature reads."""
    items = _flat(table[HISTORY])
    indptr = np.concatenate([[0], np.cumsum(_lengths(table[HISTORY]))])
    times, weights = np.zeros(len(items), np.int64), np.zeros(len(items), np.float32)
    return Histories(indptr, items, times, weights, table[SEGMENT].to_pylist())


def _padded(column: pa.ChunkedArray) -> np.ndarray:
    """Return int32 [rows, longest list], 0-padded at the right."""
    lengths = _lengths(column)
    padded = np.zeros((len(lengths), lengths.max(initial=0)), np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = _flat(column)
    return padded


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().value_lengths(), np.int64)


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().flatten())
