"""Makes training examples from histories. This is the pure part of the features stage, in vectorised numpy.

An example has a target, which is the item at a position of a user's history, and a window of the items before it. With
`strictly_before` the window excludes items with the same time as the target, such as the rest of a basket.

In a log without times the order has no meaning. There a user's items get a seeded random order and are read as a
circle, so the window is a random sample of the user's other items.

Shapes:  B users · T history entries of all users · E examples · L history length
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys_spark.hashing import mix
from recsys_spark.models.histories import Histories, recency_buckets

CHUNK = 8192
"""Number of examples made at once, so that the [CHUNK, L] intermediates fit in the processor's cache."""


@dataclass(frozen=True)
class Examples:
    """E training examples. Windows are right-aligned.

    items int32 [E], the targets · weights float32 [E] · history int32 [E, L], 0 is padding ·
    recency int32 [E, L], 0 is padding
    """

    items: np.ndarray
    weights: np.ndarray
    history: np.ndarray
    recency: np.ndarray


def make_examples(
    histories: Histories, rows: np.ndarray, positions: np.ndarray, length: int, *, strictly_before: bool = False
) -> Iterator[Examples]:
    """Yield the examples in chunks, in the given order.

    The target of an example is entry `positions` (int64 [E]) of user `rows` (int64 [E]). Its window must not be empty.
    """
    timeless = _timeless(histories)
    ends = _first_at_same_time(histories)[histories.indptr[rows] + positions] if strictly_before else positions
    ends = np.where(timeless[rows], positions, ends)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        yield _chunk(histories, timeless, rows[part], positions[part], ends[part], length)


def shuffle_timeless(histories: Histories, users: np.ndarray, seed: int) -> Histories:
    """Return the histories with those without times in a random order. Others stay as they are.

    The order depends on (seed, user, item) only. `users` is int64 [B], the dense user ids.
    """
    rows = np.repeat(np.arange(len(histories)), histories.lengths())
    user_state = mix(users[rows].astype(np.uint64) + np.uint64(seed))
    keys = np.where(_timeless(histories)[rows], mix(user_state ^ histories.items.astype(np.uint64)), np.uint64(0))
    # the sort is stable, so equal keys, such as those of users with times, keep their order
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
    """Return the examples of one chunk. The window of an example ends before position `ends` (int64 [E])."""
    back = np.arange(length, 0, -1)
    start, n = histories.indptr[rows], histories.lengths()[rows]
    available = np.where(timeless[rows], n - 1, ends)
    is_item = back[None, :] <= available[:, None]
    source = start[:, None] + np.where(is_item, (ends[:, None] - back[None, :]) % n[:, None], 0)
    gap = histories.times[start + ends - 1][:, None] - histories.times[source]
    return Examples(
        items=histories.items[start + positions],
        weights=histories.weights[start + positions],
        history=np.where(is_item, histories.items[source], 0).astype(np.int32),
        recency=np.where(is_item, recency_buckets(gap), 0).astype(np.int32),
    )


def _first_at_same_time(histories: Histories) -> np.ndarray:
    """Return int64 [T]: for each entry, the position of the user's first entry with the same time."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths())
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows[1:] != rows[:-1]) | (histories.times[1:] != histories.times[:-1])
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(rows)), 0))
    return first - histories.indptr[rows]


def _timeless(histories: Histories) -> np.ndarray:
    """Return bool [B]: whether none of a user's entries has a time."""
    rows = np.repeat(np.arange(len(histories)), histories.lengths())
    return np.bincount(rows, histories.times != 0, len(histories)) == 0
