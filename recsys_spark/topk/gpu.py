"""Finds the k best inner products on a GPU: `matmul` and `topk` of torch by tiles. Only GPU tasks import this module.

Shapes:  B users of a batch · I items, counting the padding item 0 · W items of a tile · k length of a list
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from recsys_spark.errors import ContractViolation
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.topk.exclusions import Exclusions
from recsys_spark.topk.selection import rank_candidates

TILE_BYTES = 1 << 30
"""Memory of the scores that are on the device at a time."""

torch.backends.cuda.matmul.allow_tf32 = False  # scores are float32, as on the processor
_on_device: WeakKeyDictionary[InnerProductModel, dict[str, Tensor]] = WeakKeyDictionary()


@torch.no_grad()
def top_k(
    model: InnerProductModel, users: np.ndarray, exclusions: Exclusions, k: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lists of users float32 [B, F], as `TopK.lists` does."""
    table, rows = _vectors(model, device), torch.from_numpy(users).to(device)
    banned = torch.from_numpy(exclusions.banned).to(device)
    owner = torch.from_numpy(np.repeat(np.arange(len(exclusions)), np.diff(exclusions.indptr))).to(device)
    seen = torch.from_numpy(exclusions.seen[exclusions.indptr[0] : exclusions.indptr[-1]]).long().to(device)
    tile = max(k, TILE_BYTES // (4 * max(len(users), 1)))
    best, items = rows.new_empty((len(rows), 0)), seen.new_empty((len(rows), 0))
    for start in range(0, len(table), tile):
        scores = rows @ table[start : start + tile].T
        width = scores.shape[1]
        scores[:, banned[start : start + width]] = -torch.inf
        here = (seen >= start) & (seen < start + width)
        scores[owner[here], seen[here] - start] = -torch.inf
        values, columns = scores.topk(min(k, width), dim=1)
        best, items = torch.cat([best, values], dim=1), torch.cat([items, columns + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        items = items.gather(1, order)
    if best.isnan().any():
        raise ContractViolation(f"gives NaN scores to {int(best.isnan().any(dim=1).sum())} of {len(users)} users")
    return rank_candidates(items.int().cpu().numpy(), best.cpu().numpy(), k)


def _vectors(model: InnerProductModel, device: str) -> Tensor:
    """The items' vectors on the device, copied once for as long as the model is open."""
    copies = _on_device.setdefault(model, {})
    if device not in copies:
        copies[device] = torch.tensor(model.vectors).to(device)
    return copies[device]
