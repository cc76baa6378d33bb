"""User-based k-nearest neighbours: lays out the pairs of the reference users for scoring (models/user_knn.py).

The driver copies rows from one mapped file to another. It holds arrays of a number a user and a number an item.

Shapes:  U reference users · I items, counting the padding item 0 · T pairs of the reference users
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys_spark.hashing import hash64
from recsys_spark.jit import compiled
from recsys_spark.models.user_knn import UserKnnModel, measure
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, Csr, Pairs

log = logging.getLogger(__name__)

PEARSON = "pearson"
_USERS = 1 << 14
"""Users measured at a time."""


@dataclass(frozen=True)
class UserSimilarity:
    """The formula of `UserKnnModel` with weights w_i = d_i^-item_power and factors target_i = d_i^-target_power.

    d_i is the number of all users of item i, reference users or not. `similarity` is cosine or pearson.
    """

    similarity: str
    item_power: float
    user_power: float
    similarity_power: float
    target_power: float


def fit(context: FitContext, scratch: Path) -> tuple[UserKnnModel, dict[str, Any]]:
    """Fit the model of the registry entry `user_knn`."""
    settings = context.settings.model_dump()
    sizes = {name: settings.pop(name) for name in ("neighbours", "max_users")}
    model = fit_pairs(context.pairs, scratch, similarity=UserSimilarity(**settings), **sizes)
    return model, {"reference_users": len(model.arrays["masses"])}


def fit_pairs(
    pairs: Pairs, folder: Path, *, neighbours: int, max_users: int | None, similarity: UserSimilarity
) -> UserKnnModel:
    """Return the model. `folder` takes the arrays of the pairs.

    The reference users are those with pairs, or `max_users` of them, chosen by hash: so most stay from night to night.
    """
    folder.mkdir(parents=True)
    references = _references(pairs.degrees(USERS), max_users)
    numbers = np.full(pairs.rows[USERS], -1, np.int32)
    numbers[references] = np.arange(len(references), dtype=np.int32)
    items = np.arange(pairs.rows[ITEMS], dtype=np.int32)
    degrees = pairs.degrees(ITEMS)
    counts = np.maximum(degrees, 1).astype(np.float64)
    weights = np.where(degrees > 0, np.maximum(counts**-similarity.item_power, np.finfo(np.float32).tiny), 0)
    centre = float(1 / weights.sum()) if similarity.similarity == PEARSON and pairs.count else 0.0

    length = int(pairs.degrees(USERS)[references].sum())
    by_user = _empty(folder, "user", len(references), length)
    _select(pairs.csr(USERS), references, items, counts**-similarity.target_power, False, by_user)
    by_item = _empty(folder, "item", len(items), length)
    _select(pairs.csr(ITEMS), items, numbers, weights, True, by_item)
    masses, scales = _measure(by_user, weights, centre, similarity.user_power)
    log.info("user_knn: %d reference users of %d", len(references), pairs.active[USERS])
    parameters = {
        "neighbours": neighbours,
        "user_power": similarity.user_power,
        "similarity_power": similarity.similarity_power,
        "centre": centre,
    }
    arrays = {
        "user_indptr": by_user.indptr,
        "user_items": by_user.indices,
        "user_targets": by_user.weights,
        "item_indptr": by_item.indptr,
        "item_users": by_item.indices,
        "item_weights": by_item.weights,
        "weights": weights,
        "masses": masses,
        "scales": scales,
    }
    return UserKnnModel(pairs.rows[ITEMS], parameters, arrays)


def _references(degrees: np.ndarray, maximum: int | None) -> np.ndarray:
    """Return int64, ascending: the users with pairs, at most `maximum`."""
    active = np.flatnonzero(degrees)
    if maximum is None or len(active) <= maximum:
        return active
    return np.sort(active[np.argpartition(hash64(active), maximum)[:maximum]])


def _empty(folder: Path, name: str, rows: int, length: int) -> Csr:
    """Return rows to fill, in files."""
    types = {"indices": np.int32, "weights": np.float32}
    arrays = (np.lib.format.open_memmap(folder / f"{name}.{part}.npy", "w+", t, (length,)) for part, t in types.items())
    return Csr(np.zeros(rows + 1, np.int64), *(array.view(np.ndarray) for array in arrays))


def _measure(by_user: Csr, weights: np.ndarray, centre: float, user_power: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (masses, scales) float64 [U] of the reference users, some users at a time."""
    masses, scales = np.zeros((2, len(by_user.indptr) - 1))
    for lo in range(0, len(masses), _USERS):
        indptr = by_user.indptr[lo : lo + _USERS + 1]
        items = by_user.indices[indptr[0] : indptr[-1]]
        rows = slice(lo, lo + _USERS)
        masses[rows], scales[rows] = measure(indptr - indptr[0], items, weights, centre, user_power)
    return masses, scales


@compiled
def _select(source, rows, numbers, factors, rows_are_items, selected):  # type: ignore[no-untyped-def]
    """Fill `selected` with `rows` of `source`. Columns get their `numbers`, and those below 0 are left out.

    Weights are the `factors` [I] of the items.
    """
    n = 0
    for row in range(len(rows)):
        for at in range(source.indptr[rows[row]], source.indptr[rows[row] + 1]):
            column = source.indices[at]
            if numbers[column] >= 0:
                selected.indices[n] = numbers[column]
                selected.weights[n] = factors[rows[row] if rows_are_items else column]
                n += 1
        selected.indptr[row + 1] = n
