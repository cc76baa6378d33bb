"""The search of topk.py for inner products, on a GPU: tiles of items, the best of each tile picked where it lies.

The m best scores of a row lie in the m blocks whose best are highest, whatever the blocks: a tile is read once for the best of its blocks, and only
few of the blocks are looked into. What comes back are pairs that are scored again, exactly, as on a CPU, so both give the same lists. Imports torch,
so it is imported only where there is a GPU to use.

Shapes:  B users · I items counting the padding item 0, made a multiple of BLOCK · F length of a vector · W items of a tile · r pairs kept
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from recsys_spark.item_models.best import Hidden
from recsys_spark.item_models.inner import InnerProductModel

CELLS = 1 << 28
"""Scores that lie on the device at a time: 1 GiB."""

BLOCK = 128
"""Items of which the best is found first."""

_on_device: WeakKeyDictionary[InnerProductModel, dict[str, Tensor]] = WeakKeyDictionary()


def best_pairs(
    model: InnerProductModel, users: np.ndarray, hidden: Hidden, m: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs int32 [B, r], crowded int64): as `Best.pairs` and `Best.crowded` give them for users float32 [B, F]."""
    with torch.no_grad():
        vectors, rows = _moved(model, device), torch.from_numpy(users).to(device)
        room = 2 * m + 64
        scores = torch.full((len(users), room), -torch.inf, device=device)
        items = torch.zeros((len(users), room), dtype=torch.int64, device=device)
        width = max(BLOCK, CELLS // max(len(users), 1) // BLOCK * BLOCK)
        starts = list(range(0, len(vectors), width))
        barred = _Barred(hidden, starts, len(vectors), device)
        for at, start in enumerate(starts):
            tile = rows @ vectors[start : start + width].T
            barred.put_out(tile, at, start)
            inside, columns = _promising(tile, room)
            scores, chosen = torch.cat([scores, inside], dim=1).topk(room, dim=1)
            items = torch.cat([items, columns + start], dim=1).gather(1, chosen)
        floor = scores[:, m - 1] - torch.from_numpy(model.margins(users)).to(device)
        kept = (scores >= floor[:, None]) & (scores > -torch.inf)
        most = max(m, int(kept.sum(dim=1).max()))  # what is kept comes first, for the scores descend
        pairs = torch.where(kept, items, 0)[:, :most].int().cpu().numpy()
        return pairs, np.flatnonzero(kept[:, -1].cpu().numpy())


def _promising(tile: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """The scores [B, n] of the `room` blocks whose best are highest, and their columns int64 [B, n], in a tile float32 [B, W]."""
    blocks = tile.view(len(tile), -1, BLOCK)
    chosen = blocks.amax(dim=2).topk(min(room, blocks.shape[1]), dim=1).indices[:, :, None]
    columns = chosen * BLOCK + torch.arange(BLOCK, device=tile.device)
    return blocks.gather(1, chosen.expand(-1, -1, BLOCK)).flatten(1), columns.flatten(1)


class _Barred:
    """What no list of a batch may hold, in the order of the items, so that a tile's share is a piece of it."""

    def __init__(self, hidden: Hidden, starts: list[int], n_items: int, device: str):
        fences = np.array([*starts, n_items])
        none = np.arange(len(hidden.banned), n_items)  # those that made the items a multiple of BLOCK
        items = np.append(np.flatnonzero(hidden.banned), none)
        self.items, self.of_items = torch.from_numpy(items).to(device), np.searchsorted(items, fences)
        seen = torch.from_numpy(hidden.seen[hidden.indptr[0] : hidden.indptr[-1]]).to(device)
        owner = torch.from_numpy(np.repeat(np.arange(len(hidden), dtype=np.int32), np.diff(hidden.indptr)))
        seen, order = seen.sort()
        self.seen, self.owner = seen.long(), owner.to(device)[order].long()
        self.of_seen = torch.searchsorted(self.seen, torch.from_numpy(fences).to(device)).tolist()

    def put_out(self, tile: Tensor, at: int, start: int) -> None:
        """Make -inf what is barred of the tile `at`, whose first item is `start`."""
        tile.index_fill_(1, self.items[slice(*self.of_items[at : at + 2])] - start, -torch.inf)
        seen = slice(*self.of_seen[at : at + 2])
        tile[self.owner[seen], self.seen[seen] - start] = -torch.inf


def _moved(model: InnerProductModel, device: str) -> Tensor:
    """The items' vectors on the device, where they stay for as long as the model is open."""
    moved = _on_device.setdefault(model, {})
    if device not in moved:
        vectors = torch.zeros((-(-len(model.vectors) // BLOCK) * BLOCK, model.vectors.shape[1]))
        vectors[: len(model.vectors)] = torch.tensor(model.vectors)
        moved[device] = vectors.to(device)
    return moved[device]
