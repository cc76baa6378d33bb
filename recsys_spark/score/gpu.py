"""The search of topk.py for inner products, on a GPU: tiles of items, the best of each tile picked where it lies.

Imports torch, so it is imported only where there is a GPU to use. What comes back are pairs that are scored again, exactly, as on a CPU, so both
give the same lists.

Shapes:  B users · I items counting the padding item 0 · F length of a vector · W items of a tile · r pairs kept
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch

from recsys_spark.item_models.best import Hidden
from recsys_spark.item_models.inner import InnerProductModel

CELLS = 1 << 28
"""Scores that lie on the device at a time: 1 GiB."""

_on_device: WeakKeyDictionary[InnerProductModel, torch.Tensor] = WeakKeyDictionary()


def best_pairs(
    model: InnerProductModel, users: np.ndarray, hidden: Hidden, m: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs int32 [B, r], crowded int64): as `Best.pairs` and `Best.crowded` give them for users float32 [B, F]."""
    with torch.no_grad():
        vectors, banned = _moved(model, device), torch.from_numpy(hidden.banned).to(device)
        owner = np.repeat(np.arange(len(hidden)), np.diff(hidden.indptr))
        seen = hidden.seen[hidden.indptr[0] : hidden.indptr[-1]]
        rows = torch.from_numpy(users).to(device)
        room = 2 * m + 64
        scores = torch.full((len(users), room), -torch.inf, device=device)
        items = torch.zeros((len(users), room), dtype=torch.int64, device=device)
        width = max(1, CELLS // max(len(users), 1))
        for start in range(0, model.n_items, width):
            tile = rows @ vectors[start : start + width].T
            tile[:, banned[start : start + width]] = -torch.inf
            inside = (seen >= start) & (seen < start + width)
            tile[
                torch.from_numpy(owner[inside]), torch.from_numpy(seen[inside].astype(np.int64) - start)
            ] = -torch.inf
            top, columns = tile.topk(min(room, tile.shape[1]), dim=1)
            scores, at = torch.cat([scores, top], dim=1).topk(room, dim=1)
            items = torch.cat([items, columns + start], dim=1).gather(1, at)
        floor = scores[:, m - 1] - torch.from_numpy(model.margins(users)).to(device)
        kept = (scores >= floor[:, None]) & (scores > -torch.inf)
        pairs = torch.where(kept, items, 0).int().cpu().numpy()
        return pairs, np.flatnonzero(kept[:, -1].cpu().numpy())


def _moved(model: InnerProductModel, device: str) -> torch.Tensor:
    """The items' vectors on the device, where they stay for as long as the model is open."""
    if model not in _on_device or _on_device[model].device != torch.device(device):
        _on_device[model] = torch.tensor(model.vectors, device=device)
    return _on_device[model]
