"""Training examples out of histories: the pure part of the features stage, vectorised numpy.

An example is one (user, position): the item at the position is the target, the items before it are the history. With `earlier` those of the
target's own moment are left out of it: of a basket that is yet to come nothing is known. In a log without times order means nothing;
there a user's items are first put into a seeded random order and read in a circle, so that the history is a seeded sample of the user's
other items.

Shapes:  B users · T history entries of all of them · E examples · L history length
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys_spark.hashing import mix
from recsys_spark.models.histories import Histories, recency_buckets

CHUNK = 8192
"""Examples made at a time: their [CHUNK, L] intermediates stay in the cache's reach."""


@dataclass(frozen=True)
class Examples:
    """items int32 [E] the targets · weights float32 [E] · history int32 [E, L] right-aligned, 0-padded · recency int32 [E, L], 0 where padded"""

    items: np.ndarray
    weights: np.ndarray
    history: np.ndarray
    recency: np.ndarray


def make_examples(
    histories: Histories, rows: np.ndarray, positions: np.ndarray, length: int, *, earlier: bool = False
) -> Iterator[Examples]:
    """The examples whose target is entry `positions` (int64 [E], with something before it) of user `rows` (int64 [E]), in chunks, in the
    order given."""
    timeless = _timeless(histories)
    ends = _first_of_moment(histories)[histories.indptr[rows] + positions] if earlier else positions
    ends = np.where(timeless[rows], positions, ends)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        yield _chunk(histories, timeless, rows[part], positions[part], ends[part], length)


def shuffle_timeless(histories: Histories, users: np.ndarray, seed: int) -> Histories:
    """The same histories, those without times in an order drawn from (seed, user int64 [B], item); the others as they are."""
    lengths = histories.lengths()
    rows = np.repeat(np.arange(len(histories)), lengths)
    drawn = _timeless(histories)[rows]
    keys = np.where(
        drawn,
        mix(mix(users[rows].astype(np.uint64) + np.uint64(seed)) ^ histories.items.astype(np.uint64)),
        np.uint64(0),
    )
    # the sort is stable: equal keys (users with times) keep their order, and a clash of hashes falls back on the item's
    order = np.lexsort((keys, rows))
    return Histories(
        histories.indptr,
        histories.items[order],
        histories.times[order],
        histories.weights[order],
        histories.segments,
    )


def _chunk(
    histories: Histories,
    timeless: np.ndarray,
    rows: np.ndarray,
    positions: np.ndarray,
    ends: np.ndarray,
    length: int,
) -> Examples:
    """`ends` int64 [E]: the history is what stands before this position."""
    back = np.arange(length, 0, -1)
    start, n = histories.indptr[rows], histories.lengths()[rows]
    room = np.where(timeless[rows], n - 1, ends)
    real = back[None, :] <= room[:, None]
    source = start[:, None] + np.where(real, (ends[:, None] - back[None, :]) % n[:, None], 0)
    gap = histories.times[start + ends - 1][:, None] - histories.times[source]
    return Examples(
        items=histories.items[start + positions],
        weights=histories.weights[start + positions],
        history=np.where(real, histories.items[source], 0).astype(np.int32),
        recency=np.where(real, recency_buckets(gap), 0).astype(np.int32),
    )


def _first_of_moment(histories: Histories) -> np.ndarray:
    """int64 [T]: the position, within its user, of the first entry of each entry's time."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths())
    at = np.arange(len(rows))
    begins = np.ones(len(rows), bool)
    begins[1:] = (rows[1:] != rows[:-1]) | (histories.times[1:] != histories.times[:-1])
    return np.maximum.accumulate(np.where(begins, at, 0)) - histories.indptr[rows]


def _timeless(histories: Histories) -> np.ndarray:
    """bool [B]: users none of whose entries has a time."""
    timed = np.bincount(np.repeat(np.arange(len(histories)), histories.lengths()), histories.times != 0, len(histories))
    return timed == 0
