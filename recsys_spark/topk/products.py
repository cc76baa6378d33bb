"""Inner products of users and items, offered to the lists while they are in the processor's registers: a product of matrices that is never written.

A panel of PANEL items is packed once for all users of a batch; ROWS users at a time are multiplied by it, and their scores compared with their floors before
they leave the registers. A score is one chain of fused additions, so it does not depend on the batch.

Long vectors come first, for u.v <= |u| |v|: they raise the floors soon, and who has a floor above |u| |v| is done, as no vector that follows is longer
(the pruning of Teflioudi, Gemulla and Mykytiuk, "LEMP: fast retrieval of large entries in a matrix product", SIGMOD 2015). Now and then users are put in
the order in which they will be done.

Shapes:  B users, rounded up to whole ROWS · G groups of ROWS of them · I items · P panels · F length of a vector
"""

from __future__ import annotations

import numpy as np

from recsys_spark.errors import ContractViolation
from recsys_spark.jit import compiled
from recsys_spark.models.heap import Best, offer_one
from recsys_spark.models.inner_product import FLOAT32, InnerProductModel, apart
from recsys_spark.models.llvm import bare
from recsys_spark.models.tiles import PANEL, ROWS, WIDE, lowest_bit, pack, score_tile

FIRST, GROWTH = 4, 4
"""Panels until users are put in order, and how many times as many until they are again."""
PROBED = FIRST * GROWTH**2
"""Panels after which it is told how many products are left."""
ZEROS = 1 << 12
"""Zeros offered at a time."""


def offer_products(best: Best, model: InnerProductModel, users: np.ndarray, most: float = 1.0) -> bool:
    """Offer users float32 [B', F], as many as `best` has, their products with all items of `model`, whose margins `best` has. `ContractViolation` when one is NaN.

    False where more than `most` of the products are left when the longest vectors have been seen: then `best` is worth nothing.
    """
    items, longest = model.by_length
    panels = -(-len(items) // PANEL)
    # a little more, so that no product is above its two lengths, however it is rounded
    lengths = np.linalg.norm(users.astype(np.float64), axis=1) * (1 + apart(1.0, users.shape[1], FLOAT32))
    _offer_zeros(best, np.flatnonzero(best.margins == 0), model.n_items)
    first, stop, hidden = 0, FIRST, best.hidden
    while first < panels:
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = best.floors / lengths
        if most < 1 and first == PROBED and _left(reach, longest[::WIDE]) > most:
            return False
        who = np.flatnonzero(~(reach >= longest[first * WIDE]))
        if not len(who):
            break
        bad = _offer_panels(
            who[np.argsort(reach[who])], users, lengths, model.vectors, items[first * PANEL : stop * PANEL],
            longest[first * WIDE : stop * WIDE], best.m, hidden.banned, hidden.indptr, hidden.seen, best.margins, best.keys,
            best.counts, best.floors,
        )  # fmt: skip
        if bad >= 0:
            raise ContractViolation(f"gives NaN scores to user {bad} of a batch of {len(users)}")
        first, stop = stop, stop * GROWTH
    return True


def _left(reach: np.ndarray, longest: np.ndarray) -> float:
    """The share of panels that users have before them who are done with vectors no longer than `reach`, were their floors to stay."""
    return float(np.searchsorted(-longest, -reach).mean() / len(longest))


def _offer_zeros(best: Best, users: np.ndarray, n_items: int) -> None:
    """Offer these users (int64) a zero for each item; nothing that comes later is above their floors."""
    zeros = np.zeros((1, ZEROS), np.float32)
    for user in users:
        for start in range(0, n_items, ZEROS):
            best.offer(zeros[:, : n_items - start], user, start)
            if best.floors[user] == 0:
                break
    best.floors[users] = np.inf


@compiled
def _offer_panels(  # type: ignore[no-untyped-def]
    who, users, lengths, vectors, items, longest, m, banned, indptr, seen, margins, keys, counts, floors
):  # fmt: skip
    """Offer the users `who` int64 [B'] their products with `items`, of which those from number LANES i on are no longer than longest[i]. `lengths` float64 [B'] times an item's is what
    no product is above. Those with the lowest floors for their length come first. Returns the user who met a NaN, or -1."""
    banned, indptr, seen, margins = bare(banned), bare(indptr), bare(seen), bare(margins)
    who, items, keys, counts, floors = bare(who), bare(items), bare(keys), bare(counts), bare(floors)
    depth, groups = users.shape[1], (len(who) + ROWS - 1) // ROWS
    rows, lowest = np.zeros(groups * ROWS * depth, np.float32), np.full(groups * ROWS, np.inf, np.float32)
    for at in range(len(who)):
        rows[at * depth : (at + 1) * depth] = users[who[at]]
        lowest[at] = floors[who[at]]
    done = np.full(groups, -np.inf)  # with what is not longer
    panel, offsets = np.empty(PANEL * depth, np.float32), np.empty(PANEL, np.int64)
    scores, above = np.empty(ROWS * PANEL, np.float32), np.empty(ROWS, np.int64)
    for p in range((len(items) + PANEL - 1) // PANEL):
        limit = longest[p * WIDE]
        while groups and done[groups - 1] >= limit:
            groups -= 1
        if not groups:
            break
        start = p * PANEL
        real = min(PANEL, len(items) - start)
        pack(vectors, items[start : start + real], offsets, panel)
        for group in range(groups):
            first = group * ROWS
            if done[group] >= limit:
                continue
            real_rows = min(ROWS, len(who) - first)
            marked = score_tile(rows, first * depth, panel, depth, lowest, first, scores, above)
            marked &= (1 << real_rows) - 1  # infinity times what is no user is no number
            risen = False
            while marked:
                row = lowest_bit(marked)
                marked &= marked - 1
                user, marks = who[first + row], above[row]
                while marks:
                    column = lowest_bit(marks)
                    marks &= marks - 1
                    score = scores[row * PANEL + column]
                    if column >= real or score <= floors[user]:
                        continue
                    item = items[start + column]
                    if offer_one(score, item, user, m, banned, indptr, seen, margins, keys, counts, floors):
                        return user
                risen |= floors[user] > lowest[first + row]
                lowest[first + row] = floors[user]
            if risen:
                done[group] = np.inf
                for at in range(first, first + real_rows):
                    reach = floors[who[at]] / lengths[who[at]]
                    if not reach >= done[group]:
                        done[group] = reach if reach == reach else -np.inf
    return -1
