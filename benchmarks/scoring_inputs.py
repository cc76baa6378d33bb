"""Writes the inputs of scoring.py into build/bench/scoring: the table `histories`, item models, and peers' arrays.

It has `histories/`, the item models `als/` and `item_knn/`, `indptr.npy` and `indices.npy` (CSR by user, items from
0), `item_factors.npy`, `user_factors.npy` and, only for a log, `neighbours_*.npy` (CSR).
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import BENCH, PEERS_PYTHON, REPO
from logs import Events, log_or_like, write_histories

from recsys_spark.columns import ALS, ITEM_KNN
from recsys_spark.models import base
from recsys_spark.models.als import AlsModel, Objective
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemKnnModel

FACTORS, SEEN = 64, 50
OBJECTIVE = Objective(confidence=1.0, unobserved_weight=1.0, regularization=1.0, regularization_exponent=0.0)
"""With this objective the fold-in has the solution of implicit with alpha 3, up to a factor common to all items."""
FOLDER = BENCH / "scoring"
FILES = 4


def from_log(log: Path) -> Path:
    """Write the inputs of a log, unless they exist, and return their folder."""
    name, pairs = log_or_like(log)
    folder = FOLDER / name
    if (folder / "ready").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_histories(folder / "histories", _parts(pairs))
    n_users, n_items = int(pairs.users.max()) + 1, int(pairs.items.max())
    indptr = np.searchsorted(pairs.users, np.arange(n_users + 1))
    np.save(folder / "indptr.npy", indptr)
    np.save(folder / "indices.npy", pairs.items - np.int32(1))
    for script in ("implicit_topn", "implicit_item_topn"):
        path = REPO / "benchmarks" / "peers" / f"{script}.py"
        subprocess.run([str(PEERS_PYTHON), str(path), str(folder), "--fit"], check=True)
    histories = Histories(indptr, pairs.items, pairs.times, np.ones(len(pairs), np.float32), [None] * n_users)
    _save_factors(folder, np.load(folder / "item_factors.npy"), histories)
    parts = {
        "indptr": np.append(0, np.load(folder / "neighbours_indptr.npy").astype(np.int64)),
        "neighbours": np.load(folder / "neighbours_indices.npy") + np.int32(1),
        "similarities": np.load(folder / "neighbours_data.npy").astype(np.float32),
    }
    base.save(folder / ITEM_KNN, ItemKnnModel(n_items + 1, {}, _by_candidate(parts)))
    (folder / "ready").touch()
    return folder


def _parts(pairs: Events) -> Iterator[Events]:
    """Yield as many parts as the features stage writes files on two cores."""
    ends = np.searchsorted(pairs.users, np.linspace(0, int(pairs.users.max()) + 1, FILES + 1))
    for part in itertools.starmap(slice, itertools.pairwise(ends)):
        yield Events(pairs.users[part], pairs.items[part], pairs.times[part])


def generated(users: int, items: int) -> Path:
    """Write random factors and histories of SEEN random items unless they exist. Return their folder."""
    folder = FOLDER / f"{users}x{items}"
    if (folder / "ready").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_histories(folder / "histories", _random_histories(users, items))
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((items, FACTORS)) / 8).astype(np.float32)
    np.save(folder / "user_factors.npy", rng.standard_normal((users, FACTORS)).astype(np.float32))
    seen = np.concatenate([piece.items for piece in _random_histories(users, items)])
    np.save(folder / "indptr.npy", np.arange(users + 1, dtype=np.int64) * SEEN)
    np.save(folder / "indices.npy", seen - np.int32(1))
    _save_factors(folder, vectors)
    (folder / "ready").touch()
    return folder


def _random_histories(users: int, items: int) -> Iterator[Events]:
    for first in range(0, users, 50_000):
        rng = np.random.default_rng([2, first])
        rows = min(50_000, users - first)
        chosen = np.sort(rng.integers(1, items + 1, (rows, SEEN), dtype=np.int32))
        while len(again := np.flatnonzero((np.diff(chosen) == 0).any(axis=1))):
            chosen[again] = np.sort(rng.integers(1, items + 1, (len(again), SEEN), dtype=np.int32))
        flat = chosen.ravel()
        yield Events(np.repeat(np.arange(first, first + rows), SEEN), flat, np.zeros(len(flat), np.int64))


def _save_factors(folder: Path, vectors: np.ndarray, histories: Histories | None = None) -> None:
    """Save the item model of `vectors` and, for the peers, its item vectors and the user vectors of `histories`."""
    padded = np.vstack([np.zeros((1, FACTORS), np.float32), vectors])
    model = AlsModel.of(OBJECTIVE, padded)
    base.save(folder / ALS, model)
    np.save(folder / "item_factors.npy", model.vectors[1:])
    if histories:
        np.save(folder / "user_factors.npy", np.vstack([model.encode(b) for b in histories.batches(4096)]))


def _by_candidate(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a table of neighbours with each row sorted by neighbour, as our model requires."""
    rows = np.repeat(np.arange(len(parts["indptr"]) - 1), np.diff(parts["indptr"]))
    order = np.lexsort((parts["neighbours"], rows))
    return {name: array if name == "indptr" else array[order] for name, array in parts.items()}
