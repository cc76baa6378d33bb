"""User-user neighbours: nothing is learned but the items' weights. The pairs of the reference users are laid out for scoring, where they
are compared with everybody (models/user_knn.py has the formulas).

The driver copies block after block from one mapped file to another; what it holds are arrays of a number a user and a number an item.

Shapes:  U reference users · I items counting the padding item 0 · T pairs of the reference users
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys_spark.hashing import mixed
from recsys_spark.models.ragged import ranges
from recsys_spark.models.user_knn import UserKnnModel, measure
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Pairs

log = logging.getLogger(__name__)

PEARSON = "pearson"
_CHUNK = 1 << 20
"""Items whose values are written at a time."""


@dataclass(frozen=True)
class Similarity:
    """`UserKnnModel`'s formula with the weights w_i = d_i^-item_power and the factors target_i = d_i^-target_power of items with d_i
    users in the fit, reference users or not; `similarity` is cosine or pearson."""

    similarity: str
    item_power: float
    user_power: float
    similarity_power: float
    target_power: float


def fit(pairs: Pairs, folder: Path, *, neighbours: int, max_users: int | None, similarity: Similarity) -> UserKnnModel:
    """The model, whose reference users are those with pairs, or `max_users` of them, chosen by hash: the same ones every night, as far as
    they are there. `folder` takes the arrays of the pairs."""
    folder.mkdir(parents=True)
    references = _references(pairs.degrees(USERS), max_users)
    numbers = np.full(pairs.rows[USERS], -1, np.int32)
    numbers[references] = np.arange(len(references), dtype=np.int32)
    items = np.arange(pairs.rows[ITEMS], dtype=np.int32)
    user_indptr, user_items = _rows(pairs, USERS, references, items, folder / "user_items.npy")
    item_indptr, item_users = _rows(pairs, ITEMS, items, numbers, folder / "item_users.npy")

    degrees = pairs.degrees(ITEMS)
    known = np.maximum(degrees, 1).astype(np.float64)
    # above zero, whatever the power, as a sum above zero marks a user as touched
    weights = np.where(degrees > 0, np.maximum(known**-similarity.item_power, np.finfo(np.float64).tiny), 0)
    centre = 1 / weights.sum() if similarity.similarity == PEARSON and pairs.pairs else 0.0
    masses, scales = measure(user_indptr, user_items, weights, centre, similarity.user_power)
    log.info("user_knn: %d reference users of %d", len(references), pairs.active[USERS])
    parameters = {
        "neighbours": neighbours,
        "user_power": similarity.user_power,
        "similarity_power": similarity.similarity_power,
        "centre": float(centre),
    }
    targets = known**-similarity.target_power
    item_of_pair = (
        np.repeat(items[i : i + _CHUNK], np.diff(item_indptr[i : i + _CHUNK + 1])) for i in range(0, len(items), _CHUNK)
    )
    arrays = {
        "user_indptr": user_indptr,
        "user_items": user_items,
        "user_targets": _values(
            targets, np.array_split(user_items, len(user_items) // _CHUNK + 1), folder / "user_targets.npy"
        ),
        "item_indptr": item_indptr,
        "item_users": item_users,
        "item_weights": _values(weights, item_of_pair, folder / "item_weights.npy"),
        "weights": weights,
        "masses": masses,
        "scales": scales,
    }
    return UserKnnModel(pairs.rows[ITEMS], parameters, arrays)


def _values(of_item: np.ndarray, items: Iterable[np.ndarray], path: Path) -> np.ndarray:
    """Write float32 `of_item` [I] of each of `items`, chunk by chunk, as raw numbers to `path`; returns them memory-mapped."""
    with open(path, "wb") as file:
        for chunk in items:
            file.write(of_item[chunk].astype(np.float32))
    return np.memmap(path, np.float32) if path.stat().st_size else np.empty(0, np.float32)


def _references(degrees: np.ndarray, most: int | None) -> np.ndarray:
    """int64: the users with pairs, `most` at most, ascending."""
    active = np.flatnonzero(degrees)
    if most is None or len(active) <= most:
        return active
    return np.sort(active[np.argpartition(mixed(active), most)[:most]])


def _rows(
    pairs: Pairs, side: str, wanted: np.ndarray, numbers: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """CSR of the rows `wanted` (ascending) of `side`: indptr int64, and, mapped from `path`, int32 the `numbers` int32 of the other side's rows,
    which rise with them; those below 0 are left out."""
    mine = [np.flatnonzero(wanted % pairs.blocks == block) for block in range(pairs.blocks)]
    lengths = np.zeros(len(wanted), np.int64)
    for block, at in enumerate(mine):
        entries, rows = _entries(pairs, side, block, wanted[at], numbers)
        lengths[at] = np.bincount(rows[entries >= 0], minlength=len(at))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.lib.format.open_memmap(path, "w+", np.int32, (int(indptr[-1]),))
    for block, at in enumerate(mine):
        entries, _ = _entries(pairs, side, block, wanted[at], numbers)
        indices[ranges(indptr[at], lengths[at])] = entries[entries >= 0]
    return indptr, indices


def _entries(
    pairs: Pairs, side: str, block: int, wanted: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of the entries of a block's rows `wanted`, the position in `wanted` that each belongs to)."""
    csr, at = pairs.block(side, block), wanted // pairs.blocks
    lengths = csr.indptr[at + 1] - csr.indptr[at]
    entries = csr.indices[ranges(csr.indptr[at], lengths)]
    return numbers[entries], np.repeat(np.arange(len(at)), lengths)
