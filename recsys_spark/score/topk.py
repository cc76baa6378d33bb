"""The exact top m items of a batch of users, tile by tile. The inner loop of the score stage; numpy only.

What a user may not be shown (their own history, banned items) is put out inside the tile, so no list is ever fetched longer than m.
Memory is that of one tile: B x W scores and two masks of that shape.

Shapes:  B users · I items counting the padding item 0 · W items of a tile · m length of a list
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.errors import LawBroken
from recsys_spark.item_models.base import ItemModel
from recsys_spark.item_models.histories import Histories


def top_candidates(
    model: ItemModel, encoded: Any, histories: Histories, m: int, banned: np.ndarray, tile: int
) -> tuple[np.ndarray, np.ndarray]:
    """The m best allowed items of each user, by (-score, item_idx): (items int32 [B, m], scores float32 [B, m]).

    `encoded` is what `model.encode(histories)` gave, `banned` bool [I] marks items that nobody is shown. A user with fewer than m
    allowed items has padding items with score -inf at the end. The result is the same for every `tile`.
    """
    users = np.repeat(np.arange(len(histories)), histories.lengths())
    items = np.full((len(histories), m), PADDING_ITEM, np.int32)
    scores = np.full((len(histories), m), -np.inf, np.float32)
    for start in range(0, model.n_items, tile):
        stop = min(start + tile, model.n_items)
        block = _finite(model, model.score_tile(encoded, start, stop))
        inside = (histories.items >= start) & (histories.items < stop)
        block[users[inside], histories.items[inside] - start] = -np.inf
        block[:, banned[start:stop]] = -np.inf
        items, scores = _merge(items, scores, block, start)
    return by_score(items, scores)


def by_score(items: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row by falling score; equal scores keep their order, which is by item. Items with score -inf become padding."""
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    items = np.where(np.isneginf(scores), np.int32(PADDING_ITEM), np.take_along_axis(items, order, axis=1))
    return items, scores


def best_columns(scores: np.ndarray, m: int) -> np.ndarray:
    """int64 [B, min(m, W)]: the columns of the m best scores of each row, ascending; equal scores at the cut go to the lowest columns."""
    width = scores.shape[1]
    if width <= m:
        return np.broadcast_to(np.arange(width), scores.shape)
    cut = np.partition(scores, width - m, axis=1)[:, width - m, None]
    keep = scores > cut
    at_cut = scores == cut
    room = m - np.count_nonzero(keep, axis=1)
    # a partition chooses among ties as it likes; only these rows have more of them than room
    tied = np.flatnonzero(np.count_nonzero(at_cut, axis=1) > room)
    at_cut[tied] &= np.cumsum(at_cut[tied], axis=1, dtype=np.int32) <= room[tied, None]
    return np.nonzero(keep | at_cut)[1].reshape(len(scores), m)


def _merge(
    items: np.ndarray, scores: np.ndarray, block: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best m of the lists so far and of a tile. Both stay in the order of their items, which settles ties."""
    m = items.shape[1]
    columns = best_columns(block, m)
    scores = np.concatenate([scores, np.take_along_axis(block, columns, axis=1)], axis=1)
    items = np.concatenate([items, (columns + start).astype(np.int32)], axis=1)
    columns = best_columns(scores, m)
    return np.take_along_axis(items, columns, axis=1), np.take_along_axis(scores, columns, axis=1)


def _finite(model: ItemModel, scores: np.ndarray) -> np.ndarray:
    """The scores in an array of our own to write in (a model may return a view of what it keeps); `LawBroken` when one is NaN."""
    if np.isnan(np.min(scores)):
        raise LawBroken(
            f"item model {model.kind!r} gives NaN scores to {int(np.isnan(scores).sum())} of {scores.size} (user, item) pairs; "
            "run the stage that makes it again with --force"
        )
    return np.require(scores, np.float32, ["OWNDATA", "WRITEABLE", "C_CONTIGUOUS"])
