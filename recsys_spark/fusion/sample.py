"""The users that the fusion is learned on: their candidates with every model's scores, and which of them were held out. Numpy and Arrow.

Shapes:  M models · U users, by ascending user_idx · T candidates of all users, those of a user ascending by item
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from recsys_spark.columns import ITEM_IDX, POPULARITY, SEGMENT, USER_IDX
from recsys_spark.fusion.blend import RRF, Rows, listed, shares
from recsys_spark.fusion.ranker_features import Traits
from recsys_spark.hashing import mix
from recsys_spark.metrics.categories import Categories
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
"""One row a user: their history and segment, their candidates, every model's scores of these (model by model), their held-out items."""
DDL = (
    f"{USER_IDX} bigint, {HISTORY} array<int>, {SEGMENT} string, {ITEM_IDX} array<int>, {SCORES} array<float>, "
    f"{HELD_OUT} array<int>"
)


@dataclass(frozen=True)
class Sample:
    """users and held_out (numbers of items) int64 [U]; rows, of flat arrays: items int32 [T], scores float32 [M, T], listed
    bool [M, T] (whether the model's own list has the candidate), relevant bool [T] (whether it was held out). `traits` of the users.

    From a user none of whose held-out items is a candidate nothing can be learned: they count, but keep no candidates.
    """

    models: tuple[str, ...]
    users: np.ndarray
    held_out: np.ndarray
    rows: Rows
    items: np.ndarray
    scores: np.ndarray
    listed: np.ndarray
    relevant: np.ndarray
    traits: Traits
    depth: int
    """How many candidates each model has listed."""
    _shares: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls, table: pa.Table, models: Sequence[str], popularity: ItemModel, categories: Categories, depth: int
    ) -> Sample:
        """From rows of `SCHEMA`; `popularity` is the item model of that name."""
        table = table.sort_by(USER_IDX).combine_chunks()
        users = np.asarray(table[USER_IDX], np.int64)
        lengths, held_out = (_lengths(table[name]) for name in (ITEM_IDX, HELD_OUT))
        items = _flat(table[ITEM_IDX])
        rows = Rows.of(lengths)
        user = np.repeat(np.arange(len(lengths)), lengths)
        held = np.repeat(np.arange(len(lengths)), held_out)
        relevant = _among(user, items, held, _flat(table[HELD_OUT]))
        kept = (np.bincount(user[relevant], minlength=len(lengths)) > 0)[user]
        column = np.arange(len(items)) - rows.starts[user]
        # where the first model's score of each kept candidate lies, and how far on the next model's is
        first, step = (rows.starts[user] * len(models) + column)[kept], lengths[user][kept]
        flat = _flat(table[SCORES])
        scores = np.stack([flat[first + m * step] for m in range(len(models))])
        rows = Rows.of(np.bincount(user[kept], minlength=len(lengths)))
        ranks = shares(RRF, scores, rows)
        sample = cls(
            tuple(models),
            users,
            held_out,
            rows,
            items[kept],
            scores,
            listed(ranks, depth),
            relevant[kept],
            Traits.of(_histories(table), popularity, categories),
            depth,
        )
        sample._shares[RRF] = ranks
        return sample

    def only(self, models: Sequence[str]) -> Sample:
        """As if there were no other models: their scores, and the candidates that one of them lists."""
        numbers = [self.models.index(name) for name in models]
        inside = self.listed[numbers].any(axis=0)
        found = np.bincount(self.user[inside & self.relevant], minlength=len(self.users)) > 0
        kept = np.flatnonzero(inside & found[self.user])
        return replace(
            self,
            models=tuple(models),
            traits=self.traits if POPULARITY in models else self.traits.without_popularity(),
            rows=Rows.of(np.bincount(self.user[kept], minlength=len(self.users))),
            items=self.items[kept],
            scores=np.stack([self.scores[m, kept] for m in numbers]),
            listed=np.stack([self.listed[m, kept] for m in numbers]),
            relevant=self.relevant[kept],
        )

    def shares(self, method: str) -> np.ndarray:
        """float32 [M, T]: what each model gives to each candidate before weighting."""
        if method not in self._shares:
            self._shares[method] = shares(method, self.scores, self.rows)
        return self._shares[method]

    @cached_property
    def user(self) -> np.ndarray:
        """int64 [T]: the row of each candidate's user."""
        return np.repeat(np.arange(len(self.users)), self.rows.lengths)

    @cached_property
    def telling(self) -> np.ndarray:
        """int64: rows of the users from whom something can be learned."""
        return np.flatnonzero(self.rows.lengths)

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 each: rows of users, parted by a hash of user_idx, so that a user is always on the same side."""
        odd = mix(self.users) >> np.uint64(63) == 1
        return np.flatnonzero(~odd), np.flatnonzero(odd)


def _histories(table: pa.Table) -> Histories:
    """Without times and weights, which nobody asks for."""
    items = _flat(table[HISTORY])
    indptr = np.concatenate([[0], np.cumsum(_lengths(table[HISTORY]))])
    times, weights = np.zeros(len(items), np.int64), np.zeros(len(items), np.float32)
    return Histories(indptr, items, times, weights, table[SEGMENT].to_pylist())


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().value_lengths(), np.int64)


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().flatten())


def _among(user: np.ndarray, items: np.ndarray, held: np.ndarray, held_items: np.ndarray) -> np.ndarray:
    """bool [T]: which (user, item) pairs, ascending, are among the held-out (held, held_items)."""
    found, span = np.zeros(len(items), bool), np.int64(2**31)
    keys, wanted = user * span + items, held * span + held_items
    if len(keys):
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found[place[keys[place] == wanted]] = True
    return found
