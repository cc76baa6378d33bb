"""The best m of what is offered to each user: exact, in memory that does not grow with the items.

A (score, item) pair is one uint64 key whose order is that of the lists: by score, and among equal scores the lower item first. A user's
best so far lie unsorted in a row of twice their number; a score enters when it is above the floor, and a full row is cut back to its
best, which raises the floor. So most scores cost one comparison, of which the processor does many at a time.

Scores of a tile may be off a little (a product of matrices rounds by the shape of the batch). With a `margin` all that could be among the
best m within it are kept, for the caller to score again, pair by pair.

Shapes:  B users · W items of a tile · m length of a list · K room of a row · T history entries of all users
"""

from __future__ import annotations

from copy import copy

import numpy as np

from recsys_spark.errors import LawBroken
from recsys_spark.jit import compiled
from recsys_spark.models.histories import Histories
from recsys_spark.models.llvm import bare
from recsys_spark.models.ragged import taken

_WIDE, _NARROW = 64, 16
"""Scores looked at together: one branch for so many."""
CROWDED = -1
"""The count of a user who had more within their margin than there is room for. Nothing is above their floor."""
_SIGN = np.uint32(0x80000000)
_ITEM = np.uint64(0xFFFFFFFF)


class Hidden:
    """What users are not shown: `banned` bool [I] items, which nobody is, and each user's own history."""

    def __init__(self, banned: np.ndarray, histories: Histories):
        self.banned = banned
        self.indptr = histories.indptr
        self.seen = _sorted_rows(histories.indptr, histories.items)
        """int32 [T]: the histories' items, ascending for each user."""

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def rows(self, start: int, stop: int) -> Hidden:
        """Of users start:stop, sharing memory."""
        part = copy(self)
        part.indptr = self.indptr[start : stop + 1]
        return part

    def take(self, users: np.ndarray) -> Hidden:
        """Of these users (int [B']), their histories copied."""
        part = copy(self)
        part.indptr, at = taken(self.indptr, users)
        part.seen = self.seen[at]
        return part

    def most_had(self, most: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """(items int32 [P], ascending; int64 [B]: how many of them each user's history has) of the items that stand in most of the histories and are not
        banned; P is `most` at most, and a whole number of times `groups`. Memory is that of the histories, however many items there are."""
        items, counts = np.unique(self.seen[self.indptr[0] : self.indptr[-1]], return_counts=True)
        allowed = ~self.banned[items]
        items, counts = items[allowed], counts[allowed]
        n = min(most, len(items)) // groups * groups
        if n < len(items):
            items = np.sort(items[np.argpartition(-counts, n)[:n]])
        return items, _shared(self.indptr, self.seen, items)


class Best:
    """The best m of each of B users: `offer` tiles by ascending item, then take the `pairs` or the `lists`. Where a user's margin is above zero, what equals the
    least of the best is kept as well, and items may come in any order."""

    def __init__(self, hidden: Hidden, m: int, margins: np.ndarray | None = None):
        """`margins` float32 [B]: scores this far below the m-th best are kept as well."""
        n_users = len(hidden)
        self.hidden, self.m, self.exact = hidden, m, margins is None
        self.margins = np.zeros(n_users, np.float32) if margins is None else margins.astype(np.float32)
        self.keys = np.zeros((n_users, 2 * m + _NARROW), np.uint64)
        self.counts = np.zeros(n_users, np.int64)
        self.floors = np.full(n_users, -np.inf, np.float32)

    def start_above(self, reached: np.ndarray, own: np.ndarray) -> None:
        """Set the floors to just below what m items that are not hidden surely reach: a score is reached by an item of each of G groups, `reached` float32
        [B, G], of whose items the user's history has `own` int64 [B]. The m-th best group's counts, or a later one's by as many. Overwrites `reached`."""
        _set_floors(reached, own, self.m, self.margins, self.floors)

    def offer(self, scores: np.ndarray, first_user: int, first_item: int) -> None:
        """Scores float32 [b, W] of users first_user … and items first_item …. `LawBroken` when one is NaN."""
        bad = _offer(
            np.ascontiguousarray(scores), first_user, first_item, self.m, self.hidden.banned, self.hidden.indptr,
            self.hidden.seen, self.margins, self.keys, self.counts, self.floors,
        )  # fmt: skip
        if bad:
            raise LawBroken(f"gives NaN scores to {int(np.isnan(scores).sum())} of {scores.size} (user, item) pairs")

    def crowded(self) -> np.ndarray:
        """int64: users of whom more stood within their margin than there was room for; their pairs are not all there."""
        return np.flatnonzero(self.counts < 0)

    def pairs(self) -> np.ndarray:
        """int32 [B, c]: the items kept of each user, in no order, padded with item 0."""
        _trim(self.m, self.margins, self.keys, self.counts)
        widest = max(int(self.counts.max(initial=0)), 0)
        kept = self.keys[:, :widest]
        return np.where(np.arange(widest) < self.counts[:, None], items_of(kept), np.int32(0))

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """Items int32 [B, m] and scores float32 [B, m], by (-score, item); where there are fewer item 0 with score -inf."""
        self.keys[np.arange(self.keys.shape[1]) >= self.counts[:, None]] = 0
        return _lists_of(self.keys, self.m)


def rank_pairs(items: np.ndarray, scores: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The best m of items int32 [B, c] (0 is padding) by scores float32 [B, c], as `Best.lists` gives them."""
    keys = keys_of(items, scores)
    keys[(items == 0) | np.isneginf(scores)] = 0
    return _lists_of(keys, m)


def keys_of(items: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """uint64: keys of pairs, arrays of any one shape."""
    bits = (np.ascontiguousarray(scores, np.float32) + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    rising = np.where(bits & _SIGN, ~bits, bits | _SIGN).astype(np.uint64)
    return (rising << np.uint64(32)) | (_ITEM - items.astype(np.uint64))


def _lists_of(keys: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    keys = np.sort(keys, axis=1)[:, ::-1][:, :m]
    if keys.shape[1] < m:
        keys = np.pad(keys, ((0, 0), (0, m - keys.shape[1])))
    rising = (keys >> np.uint64(32)).astype(np.uint32)
    scores = np.where(rising & _SIGN, rising ^ _SIGN, ~rising).view(np.float32)
    return np.where(keys == 0, np.int32(0), items_of(keys)), np.where(keys == 0, np.float32(-np.inf), scores)


def items_of(keys: np.ndarray) -> np.ndarray:
    return (_ITEM - (keys & _ITEM)).astype(np.int32)


@compiled
def _shared(indptr, seen, items):  # type: ignore[no-untyped-def]
    """int64 [B]: how many of `items`, ascending, each row of `seen` has, ascending as well."""
    found = np.zeros(len(indptr) - 1, np.int64)
    for row in range(len(found)):
        place = 0
        for at in range(indptr[row], indptr[row + 1]):
            place = _place(items, place, len(items), seen[at])
            found[row] += place < len(items) and items[place] == seen[at]
    return found


@compiled
def _set_floors(reached, own, m, margins, floors):  # type: ignore[no-untyped-def]
    for user in range(len(reached)):
        place = m + own[user]
        # without a margin all may be equal, and take long to select from
        if margins[user] > 0 and place <= reached.shape[1]:
            select(reached[user], reached.shape[1], place)
            floors[user] = np.nextafter(reached[user, place - 1] - margins[user], np.float32(-np.inf))


@compiled
def _sorted_rows(indptr, values):  # type: ignore[no-untyped-def]
    """A copy of `values` with each row ascending."""
    found = values.copy()
    for row in range(len(indptr) - 1):
        found[indptr[row] : indptr[row + 1]].sort()
    return found


@compiled
def _offer(  # type: ignore[no-untyped-def]
    scores, first_user, first_item, m, banned, indptr, seen, margins, keys, counts, floors
):  # fmt: skip
    """Returns whether a NaN was met."""
    banned, indptr, seen, margins = bare(banned), bare(indptr), bare(seen), bare(margins)
    scores, keys, counts, floors = bare(scores), bare(keys), bare(counts), bare(floors)
    for row in range(len(scores)):
        user, lo, width = first_user + row, 0, scores.shape[1]
        while lo < width:
            hi = min(lo + _WIDE, width)
            if hi - lo == _WIDE and not _above_wide(scores[row, lo:hi], floors[user]):
                lo = hi
                continue
            hi = min(lo + _NARROW, width)
            if hi - lo < _NARROW or _above_narrow(scores[row, lo:hi], floors[user]):
                for column in range(lo, hi):
                    score, item = scores[row, column], first_item + column
                    if score <= floors[user]:
                        continue
                    if offer_one(score, item, user, m, banned, indptr, seen, margins, keys, counts, floors):
                        return True
            lo = hi
    return False


@compiled(inline=True)
def offer_one(score, item, user, m, banned, indptr, seen, margins, keys, counts, floors):  # type: ignore[no-untyped-def]
    """Offer a user a score that is above their floor or NaN; returns whether it is NaN."""
    if score != score:
        return True
    if not banned[item] and not holds(seen, indptr[user], indptr[user + 1], item):
        keys[user, counts[user]] = key_of(score, item)
        counts[user] += 1
        if counts[user] == keys.shape[1]:
            counts[user], floors[user] = cut(keys[user], m, margins[user])
            if counts[user] == keys.shape[1]:
                counts[user], floors[user] = CROWDED, np.inf
    return False


@compiled
def _above_wide(scores, floor):  # type: ignore[no-untyped-def]
    """Whether one of _WIDE scores is above the floor; NaN is. Written so that it becomes comparisons of whole registers."""
    found = np.int32(0)
    for at in range(_WIDE):
        found = np.int32(found | np.int32(0 if scores[at] <= floor else 1))
    return found != 0


@compiled
def _above_narrow(scores, floor):  # type: ignore[no-untyped-def]
    found = np.int32(0)
    for at in range(_NARROW):
        found = np.int32(found | np.int32(0 if scores[at] <= floor else 1))
    return found != 0


@compiled(inline=True)
def key_of(score, item):  # type: ignore[no-untyped-def]
    """The key of a float32 score and an item."""
    word = np.uint32(0) if score == 0 else np.float32(score).view(np.uint32)  # 0.0 and -0.0
    rising = np.uint32(~word if word & _SIGN else word | _SIGN)
    return (np.uint64(rising) << np.uint64(32)) | (_ITEM - np.uint64(item))


@compiled
def item_of(key):  # type: ignore[no-untyped-def]
    """The item of a key."""
    return np.int32(_ITEM - (key & _ITEM))


@compiled
def score_of(key):  # type: ignore[no-untyped-def]
    """The float32 score of a key."""
    rising = np.uint32(key >> np.uint64(32))
    return np.uint32(rising ^ _SIGN if rising & _SIGN else ~rising).view(np.float32)


@compiled
def _trim(m, margins, keys, counts):  # type: ignore[no-untyped-def]
    for row in range(len(keys)):
        if counts[row] > m:
            counts[row], _ = cut(keys[row, : counts[row]], m, margins[row])


@compiled
def cut(keys, m, margin):  # type: ignore[no-untyped-def]
    """Move the best m and those within the margin of the last of them to the front; returns how many these are, and the new floor."""
    select(keys, len(keys), m)
    least = score_of(keys[m - 1])
    if margin == 0:
        return m, least
    floor = np.float32(np.nextafter(np.float32(least - margin), np.float32(-np.inf)))
    n = m
    for at in range(m, len(keys)):
        if score_of(keys[at]) > floor:
            keys[n] = keys[at]
            n += 1
    return n, floor


@compiled
def select(keys, size, k):  # type: ignore[no-untyped-def]
    """Put the k largest of keys[:size], 1 <= k <= size, first in any order, the least of them last. Quickselect in the way of Lomuto, which has no branch that
    the processor must guess; keys are distinct, or it takes longer."""
    lo, hi = 0, size - 1
    while lo < hi:
        middle = (lo + hi) >> 1
        a, b, c = keys[lo], keys[middle], keys[hi]
        pivot = max(min(a, b), min(max(a, b), c))
        keys[lo if pivot == a else middle if pivot == b else hi] = c
        place = lo
        for at in range(lo, hi):
            key = keys[at]
            keys[at] = keys[place]
            keys[place] = key
            place += key > pivot
        keys[hi] = keys[place]
        keys[place] = pivot
        if k - 1 < place:
            hi = place - 1
        elif k - 1 > place:
            lo = place + 1
        else:
            return


@compiled(inline=True)
def holds(values, lo, hi, wanted):  # type: ignore[no-untyped-def]
    """Whether values[lo:hi], ascending, has `wanted`."""
    place = _place(values, lo, hi, wanted)
    return place < hi and values[place] == wanted


@compiled(inline=True)
def _place(values, lo, hi, wanted):  # type: ignore[no-untyped-def]
    """Of the first in values[lo:hi], ascending, that is not below `wanted`; `hi` where there is none."""
    size = hi - lo
    while size > 0:  # no branch to guess
        half = (size + 1) // 2
        lo += half * (values[lo + half - 1] < wanted)
        size -= half
    return lo
