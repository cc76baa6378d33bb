"""The search of topk.py for inner products, on a processor that multiplies matrices of bfloat16 (AMX).

Sixteen bits tell that most items are out of the question. What is multiplied in bfloat16 is not the score but a bound above it; an item whose
bound is above the floor is scored in float32, by itself, and offered. With u' and v' what is left of a user's and an item's vector,

    u.v - u'.v' = (u - u').v + u'.(v - v') <= |u - u'| |v| + |u'| |v - v'|,

so two numbers behind those of each vector, rounded up, make the product a bound.

A user's floor is found before: bounds less what they may be too high by are scores that are surely reached, and the items that stand in most of the
histories are tried for it.

Imports torch, so it is imported only where it is used.

Shapes:  B users · I items · F length of a vector · W items of a tile · P items tried · G groups of them
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from recsys_spark.jit import REORDER, compiled
from recsys_spark.models.heap import Best, offer_one
from recsys_spark.models.inner_product import BFLOAT16, FLOAT32
from recsys_spark.models.llvm import bare

SUM = 2 * FLOAT32
"""Twice what each number of a float32 sum may make it err by, as a share of the sum of what is added, signs apart (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, §3.1). So much of |u| |v| is added to |u - u'| |v|, and so much to each length."""
SHORTEST, LONGEST = 1e-10, 1e15
"""Lengths of vectors between which no square under- or overflows that matters; zeros alone are below, and fit."""
TRIED, GROUPS = 8, 4
"""One item of so many is tried, in so many groups for each place of a list: of every group the best counts, so that few are compared."""
_BLOCK = 64
"""Bounds looked at together: one branch for so many."""


@cache
def available() -> bool:
    """Whether the processor has the instructions."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def offer_screened(best: Best, users: np.ndarray, vectors: np.ndarray, tile: int) -> bool:
    """Offer users float32 [B, F] their products with all of `vectors` float32 [I, F], `tile` items at a time.

    False where a vector is too long or too short for bfloat16, or no number: then `best` is worth nothing.
    """
    users, hidden = np.ascontiguousarray(users), best.hidden
    left = _narrow(users, of_users=True)
    width = -(-tile // _BLOCK) * _BLOCK
    if left is None or not _raise_floors(best, left, vectors, width):
        return False
    bounds = torch.empty((len(users), width), dtype=torch.bfloat16)
    for start in range(0, len(vectors), width):
        part = vectors[start : start + width]
        right = _narrow(part, rows=width)
        if right is None:
            return False
        _offer_above(
            _bounds(left, right, bounds), start, users, part, best.m, hidden.banned, hidden.indptr, hidden.seen,
            best.margins, best.keys, best.counts, best.floors,
        )  # fmt: skip
    return True


def _raise_floors(best: Best, left: np.ndarray, vectors: np.ndarray, width: int) -> bool:
    """Set the floors to just below what is surely reached by m items that are not hidden, some `width` items at a time. False as `offer_screened`."""
    groups = GROUPS * best.m
    tried, own = best.hidden.most_had(len(vectors) // TRIED, groups)
    if not len(tried):
        return True
    reached = np.full((len(left), groups), -np.inf, np.float32)
    step = max(width // groups, 1) * groups
    for first in range(0, len(tried), step):
        right = _narrow(vectors[tried[first : first + step]])
        if right is None:
            return False
        lengths, losses = _floats(np.ascontiguousarray(right[:, -2:].T))
        _reach(_bounds(left, right), _floats(left[:, -2:]), lengths, losses, reached)
    best.start_above(reached, own)
    return True


def _narrow(vectors: np.ndarray, *, of_users: bool = False, rows: int = 0) -> np.ndarray | None:
    """int16 [n, F + 2], `rows` at least: the bits of vectors float32 [n, F] as bfloat16, and behind them the length of each and of what it has lost, in
    this order; of users what they have lost comes first, and their length is what is left. None where one does not fit."""
    n, depth = vectors.shape
    out = np.zeros((max(n, rows), depth + 2), np.int16)
    return out if _set_narrow(vectors, of_users, out) else None


def _bounds(left: np.ndarray, right: np.ndarray, out: torch.Tensor | None = None) -> np.ndarray:
    """int16, the bits of bfloat16 [users, items]: the products of what `_narrow` gave, summed in float32, rounded to the nearest. `out` as torch has it."""
    first, second = (torch.from_numpy(bits).view(torch.bfloat16) for bits in (left, right))
    return torch.mm(first, second.T, out=out).view(torch.int16).numpy()


def _floats(bits: np.ndarray) -> np.ndarray:
    """float32: the bfloat16 of these bits."""
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


@compiled(fastmath=REORDER)
def _set_narrow(vectors, of_users, out):  # type: ignore[no-untyped-def]
    depth = vectors.shape[1]
    slack = (depth + 8) * SUM
    for row in range(len(vectors)):
        squares, left, lost = np.float32(0), np.float32(0), np.float32(0)
        for f in range(depth):
            number = np.float32(vectors[row, f])
            word = number.view(np.uint32)
            word += np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))  # to the nearest, ties to even
            word >>= np.uint32(16)
            out[row, f] = np.int16(np.uint16(word))
            short = np.uint32(word << np.uint32(16)).view(np.float32)
            squares += number * number
            left += short * short
            lost += (number - short) * (number - short)
        if squares == 0:
            continue
        if not SHORTEST * SHORTEST < squares < LONGEST * LONGEST:  # nor what is no number
            return False
        whole, left, lost = np.sqrt(squares), np.sqrt(left), np.sqrt(lost)
        if of_users:
            out[row, depth], out[row, depth + 1] = _up(lost + slack * whole, slack), _up(left, slack)
        else:
            out[row, depth], out[row, depth + 1] = _up(whole, slack), _up(lost, slack)
    return True


@compiled
def _up(number, slack):  # type: ignore[no-untyped-def]
    """The bits of a bfloat16 that is not below a number that is not negative, nor below one that is greater by `slack` as a share of it."""
    word = np.float32(number * (1 + slack)).view(np.uint32)
    return np.int16(np.uint16((word + np.uint32(0xFFFF)) >> np.uint32(16)))


@compiled
def _reach(bounds, users, lengths, losses, reached):  # type: ignore[no-untyped-def]
    """Raise `reached` [B, G], the best of each group so far, by what `bounds` say is surely reached. `users` float32 [B, 2] is what stands behind
    their vectors, `lengths` and `losses` what stands behind those of the items."""
    groups = reached.shape[1]
    for user in range(len(reached)):
        row, most = bounds[user], reached[user]
        lost, length = np.float32(2) * users[user, 0], np.float32(2) * users[user, 1]
        for first in range(0, len(lengths), groups):
            group = slice(first, first + groups)
            _reach_groups(row[group], lost, lengths[group], length, losses[group], most)


@compiled(fastmath=REORDER)
def _reach_groups(bounds, lost, lengths, length, losses, most):  # type: ignore[no-untyped-def]
    for at in range(len(most)):
        bound = np.uint32(np.uint32(np.uint16(bounds[at])) << np.uint32(16)).view(np.float32)
        # so far may a bound be below what it was before it was rounded
        sure = bound - np.float32(BFLOAT16) * abs(bound) - (lost * lengths[at] + length * losses[at])
        most[at] = max(sure, most[at])


@compiled
def _below(number):  # type: ignore[no-untyped-def]
    """The `_order` of the greatest bfloat16 that nothing above a float32 is rounded to."""
    number = np.float32(number * (1 - BFLOAT16 - 1e-6 if number > 0 else 1 + BFLOAT16 + 2e-5))
    word = number.view(np.uint32)
    if word >> np.uint32(31):
        word += np.uint32(0xFFFF)
    return _order(np.int16(np.uint16(word >> np.uint32(16))))


@compiled
def _order(bits):  # type: ignore[no-untyped-def]
    """An int16 that is as great beside others as the bfloat16 of these bits."""
    return np.int16(bits ^ np.int16(np.int16(bits >> np.int16(15)) & np.int16(0x7FFF)))


@compiled
def _any_above(bounds, least):  # type: ignore[no-untyped-def]
    """Whether one of _BLOCK bounds is above. Written so that it becomes comparisons of whole registers."""
    found = np.int16(0)
    for at in range(_BLOCK):
        found = np.int16(found | np.int16(0 if _order(bounds[at]) <= least else 1))
    return found != 0


@compiled(fastmath=REORDER)
def _product(user, item):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for f in range(len(user)):
        total += user[f] * item[f]
    return total


@compiled
def _offer_above(  # type: ignore[no-untyped-def]
    bounds, start, users, vectors, m, banned, indptr, seen, margins, keys, counts, floors
):  # fmt: skip
    """Offer `users` those of `vectors`, of the items from `start` on, whose bounds are above their floors."""
    bounds, users, vectors = bare(bounds), bare(users), bare(vectors)
    banned, indptr = bare(banned), bare(indptr)
    seen, margins, keys, counts, floors = bare(seen), bare(margins), bare(keys), bare(counts), bare(floors)
    real = len(vectors)
    for user in range(len(users)):
        floor = floors[user]
        least = _below(floor)
        for lo in range(0, real, _BLOCK):
            if not _any_above(bounds[user, lo : lo + _BLOCK], least):
                continue
            for column in range(lo, min(lo + _BLOCK, real)):
                if _order(bounds[user, column]) <= least:
                    continue
                score, item = _product(users[user], vectors[column]), start + column
                if score <= floor:
                    continue
                offer_one(score, item, user, m, banned, indptr, seen, margins, keys, counts, floors)
                if floors[user] > floor:
                    floor = floors[user]
                    least = _below(floor)
