"""The search of topk.py for inner products, on a GPU: tiles of items, the best of each tile picked where it lies.

Products of bfloat16 tell which items can be among the best of a user: all whose product is not further below the m-th best than rounding can put them.
These few are summed in float64 there, and ordered. Whom that leaves open, for too many items are alike, is searched again with products of float32. The
m best of a row lie in the m groups whose best are highest, whatever the groups: a tile is read once for the best of its groups, and only few of these are
looked into.

The lists are those of a CPU, to the last bit: where a sum in another order could be rounded to another float32, the user is left to the caller.

Imports torch, so it is imported only where there is a GPU to use.

Shapes:  B users · I items counting the padding item 0, made a multiple of STEP · F length of a vector · W items of a tile · m length of a list · r pairs kept
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from recsys_spark.models.heap import Hidden
from recsys_spark.models.inner_product import BFLOAT16, FLOAT32, FLOAT64, ROWS, InnerProductModel, apart
from recsys_spark.models.sums import check_scores

TILE_BYTES = 1 << 31
"""Of the scores that lie on the device at a time: in bfloat16, those of 4,096 users and 262,144 items."""
GROUP = 128
"""Items of which the best is found first. They stand W / GROUP apart, so that the best of neighbouring groups are found at once."""
STEP = 8 * GROUP
"""Tiles have a multiple of so many items, so that the scores of eight groups lie in 16 bytes."""
SUMS = 4.0
"""How much worse than a float32 sum (`inner.apart`) a GPU's units for bfloat16 may add up what they multiply: they align some products at a time and cut
what is below the last bit instead of rounding it (Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science, 2021)."""
SMALLEST, LARGEST = 2.0**-124, 2.0**126
"""What may be lost of each product, and of a sum, that is too small for a float32 of full precision; below what no product overflows."""

# products are summed in float32, whatever the environment says
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
torch.backends.cuda.matmul.allow_tf32 = False


def best_lists(
    model: InnerProductModel, users: np.ndarray, hidden: Hidden, m: int, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(items int32 [B, m], scores float32 [B, m], unsure int64): the lists as `top_candidates` gives them for users float32 [B, F], and of whom they are
    not certain. `ContractViolation` when one has a NaN."""
    with torch.no_grad():
        table, short = _moved(model, device), _multiplies_bfloat16(device)
        items, scores, certain = _search(table, model, users, hidden, m, short=short)
        again = np.flatnonzero(~certain)
        if short and len(again):
            items[again], scores[again], certain[again] = _search(
                table, model, users[again], hidden.take(again), m, short=False
            )
        check_scores(scores)
        return items, scores, np.flatnonzero(~certain)


def _multiplies_bfloat16(device: str) -> bool:
    return torch.device(device).type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


@dataclass(frozen=True)
class _Table:
    """The items' vectors on a device, float32 and bfloat16 [I, F]; float64 [I] how long they are, and the longest of what the latter have lost."""

    vectors: Tensor
    short: Tensor
    lengths: Tensor
    lost: Tensor


def _search(
    table: _Table, model: InnerProductModel, users: np.ndarray, hidden: Hidden, m: int, *, short: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(items, scores, bool [B]: whether they are certain), by products of bfloat16 if `short`, else float32. The scores of a user who has a NaN are NaN."""
    device = table.vectors.device
    rows = torch.from_numpy(users).to(device)
    exact = rows.double()
    lengths = _length(exact)
    margins = apart(lengths * model.largest, rows.shape[1], FLOAT32)
    left, right = (rows.bfloat16(), table.short) if short else (rows, table.vectors)
    found, items = _best(left, right, hidden, 2 * m + 64)
    floor, fits = found[:, m - 1].double(), lengths * model.largest < LARGEST
    if short:
        lost = _length(exact - left) * model.largest + _length(left.double()) * table.lost
        floor -= BFLOAT16 * floor.abs() + 2 * (lost + SUMS * margins + rows.shape[1] * SMALLEST)
        floor -= BFLOAT16 * floor.abs()
        fits &= lost.isfinite()
    else:
        floor -= margins
    kept = (found >= floor[:, None]) & (found > -torch.inf)
    items, scores, doubtful = _ranked(table, exact, lengths, torch.where(kept, items, 0))
    wrong = found[:, :1].isnan()
    scores = torch.where(wrong, torch.nan, scores)
    certain = fits & ~(kept[:, -1] | floor.isnan() | wrong[:, 0] | doubtful)
    return items[:, :m].int().cpu().numpy(), scores[:, :m].cpu().numpy(), certain.cpu().numpy()


def _best(left: Tensor, right: Tensor, hidden: Hidden, room: int) -> tuple[Tensor, Tensor]:
    """The best `room` products [B, room] of users [B, F] and items [I, F] that are not hidden, descending, and the items int64; NaN counts as the best."""
    width = max(STEP, TILE_BYTES // (left.element_size() * max(len(left), 1)) // STEP * STEP)
    barred = _Barred(hidden, len(right), left.device)
    found = left.new_full((len(left), room), -torch.inf)
    items = torch.zeros((len(left), room), dtype=torch.int64, device=left.device)
    for start in range(0, len(right), width):
        inside, columns = _of_tile(left, right[start : start + width], barred, start, room)
        found, chosen = torch.cat([found, inside], dim=1).topk(room, dim=1)
        items = torch.cat([items, columns + start], dim=1).gather(1, chosen)
    return found, items


def _of_tile(left: Tensor, right: Tensor, barred: _Barred, start: int, room: int) -> tuple[Tensor, Tensor]:
    """The best products of a tile of items [W, F], `room` at most, and their columns int64."""
    tile = left @ right.T
    barred.put_out(tile, start)
    groups = tile.view(len(tile), GROUP, -1)
    count = groups.shape[2]
    chosen = groups.amax(dim=1).topk(min(room, count), dim=1).indices
    inside = groups.gather(2, chosen[:, None].expand(-1, GROUP, -1)).flatten(1)
    best, at = inside.topk(min(room, inside.shape[1]), dim=1)
    looked_into = chosen.shape[1]
    return best, chosen.gather(1, at % looked_into) + at // looked_into * count


def _ranked(table: _Table, rows: Tensor, lengths: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Items int64 [B, r] (0 is padding) by (-score, item), their scores float32 [B, r], and whether one of a user's could be rounded otherwise, its
    sum being taken in another order; users `rows` are float64 [B, F], `lengths` [B] theirs."""
    sums = (table.vectors[items] * rows[:, None]).sum(dim=2)
    errors = apart(lengths[:, None] * table.lengths[items], rows.shape[1], FLOAT64)
    real = items > 0
    doubtful = (((sums - errors).float() != (sums + errors).float()) & real).any(dim=1)
    scores = torch.where(real, sums.float() + 0.0, -torch.inf)  # -0.0 becomes 0.0
    items, order = items.sort(dim=1)
    scores, best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return torch.where(scores > -torch.inf, items.gather(1, best), 0), scores, doubtful


def _length(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)


class _Barred:
    """What no list of a batch may hold."""

    def __init__(self, hidden: Hidden, n_items: int, device: torch.device):
        none = np.arange(len(hidden.banned), n_items)  # those that made the items a multiple of STEP
        self.n_items, self.items = n_items, np.append(np.flatnonzero(hidden.banned), none)
        owner = np.repeat(np.arange(len(hidden)), np.diff(hidden.indptr))
        self.owner = torch.from_numpy(owner).to(device)
        self.seen = torch.from_numpy(hidden.seen[hidden.indptr[0] : hidden.indptr[-1]]).to(device).long()

    def put_out(self, tile: Tensor, start: int) -> None:
        """Make -inf what is barred of a tile whose first item is `start`."""
        stop = start + tile.shape[1]
        inside = self.items[slice(*np.searchsorted(self.items, [start, stop]))] - start
        tile.index_fill_(1, torch.from_numpy(inside).to(tile.device), -torch.inf)
        owner, seen = self.owner, self.seen
        if tile.shape[1] < self.n_items:
            here = (seen >= start) & (seen < stop)
            owner, seen = owner[here], seen[here]
        tile[owner, seen - start] = -torch.inf


_on_device: WeakKeyDictionary[InnerProductModel, dict[str, _Table]] = WeakKeyDictionary()


def _moved(model: InnerProductModel, device: str) -> _Table:
    """The items' vectors on the device, where they stay for as long as the model is open."""
    moved = _on_device.setdefault(model, {})
    if device not in moved:
        padded = torch.zeros((-(-len(model.vectors) // STEP) * STEP, model.vectors.shape[1]))
        padded[: len(model.vectors)] = torch.tensor(model.vectors)
        vectors = padded.to(device)
        short = vectors.bfloat16()
        lengths = torch.cat([_length(part.double()) for part in vectors.split(ROWS)])
        lost = [_length(v.double() - s).max() for v, s in zip(vectors.split(ROWS), short.split(ROWS), strict=True)]
        moved[device] = _Table(vectors, short, lengths, torch.stack(lost).max())
    return moved[device]
