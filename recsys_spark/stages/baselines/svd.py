"""Truncated SVD of the normalised pairs over Spark, by block subspace iteration (Halko, Martinsson and Tropp, SIAM
Review 2011).

A half-step multiplies the vectors of one side by N or its transpose: a row of the other side is the sum of the vectors
of its entries. Tasks map the pairs and the vectors into memory and write their own rows to part files. Gram matrices
and the rotations made of them go through the driver. The eigenvectors of a Gram matrix make the next factor
orthonormal (Stathopoulos and Wu, SIAM J. Sci. Comput. 2002). This costs the same two products as Cholesky's factor, but
a block of less than full rank only becomes narrower.

Vectors are multiplied in float32, Gram matrices summed in float64. The start depends on the rows' numbers alone, so the
model is the same for any number of tasks, up to the rounding of the Gram matrices.

Shapes:  I items, counting the padding item 0 · F factors · L factors and some more: width of the vectors
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import SparkContext

from recsys_spark.hashing import mixed
from recsys_spark.jit import compiled
from recsys_spark.models.svd import SvdModel
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, Pairs
from recsys_spark.stages.baselines.parts import Rows, even_ranges, join, load, part_path, run_tasks, whole_file

log = logging.getLogger(__name__)

OVERSAMPLING = 64
"""Vectors beyond the factors. They hold what the wanted vectors lack."""
PASSES = 4
"""Multiplications by N^T N after the first by N^T. On Gowalla three give lists as good as those of the exact vectors,
which take ten times as long."""
ROWS = 4096
"""Rows multiplied at a time: three arrays of 9 or 18 MB with 576 vectors."""
_ROUNDING = 1e-9
"""Eigenvalues of a Gram matrix below this share of the largest are float32 rounding."""


def fit(context: FitContext, scratch: Path) -> tuple[SvdModel, dict[str, Any]]:
    """Fit the model of the registry entry `svd`."""
    model = fit_pairs(context.spark, context.pairs, scratch, **context.settings.model_dump())
    return model, {"svd_factors": len(model.arrays["spectrum"])}


def fit_pairs(
    spark: SparkContext,
    pairs: Pairs,
    folder: Path,
    *,
    factors: int,
    user_power: float,
    item_power: float,
    singular_power: float,
    target_power: float,
) -> SvdModel:
    """Return the model, with fewer factors if the pairs have a lower rank. `folder` takes the vectors."""
    folder.mkdir(parents=True)
    degrees = np.maximum(pairs.degrees(ITEMS), 1).astype(np.float64)
    powers = {USERS: user_power, ITEMS: item_power}
    width = min(factors + OVERSAMPLING, pairs.active[USERS], pairs.active[ITEMS])
    if width:
        values, rotation = _iterate(partial(_run, spark, pairs, folder), pairs, folder, powers, width)
        sigma, items = np.sqrt(values[:factors]), _items(folder, rotation[:, :factors])
    else:
        sigma, items = np.zeros(1), np.zeros((pairs.rows[ITEMS], 1), np.float32)
    # the files hold D^-power times a vector, see `_multiply`
    items *= (degrees ** (item_power + target_power)).astype(np.float32)[:, None]
    arrays = {"items": items, "weights": degrees ** -(item_power + target_power), "spectrum": sigma**singular_power}
    return SvdModel(pairs.rows[ITEMS], {}, arrays)


def _iterate(
    run: Callable[[str, Callable[[Rows], np.ndarray]], np.ndarray],
    pairs: Pairs,
    folder: Path,
    powers: dict[str, float],
    width: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the squares of the singular values float64 [L], falling, and the rotation float64 [L, L] that turns the
    items' file into singular vectors."""
    clock = time.monotonic()
    run(USERS, partial(_start, pairs, folder, powers[USERS], width))
    basis = np.eye(width)
    for _ in range(PASSES + 1):
        for side, other in ((ITEMS, USERS), (USERS, ITEMS)):
            rotation = basis
            gram = run(side, partial(_multiply, pairs, folder, side, other, powers[side], rotation))
            values, vectors = _eigen(gram)
            basis = vectors / np.sqrt(values)
        log.info("svd: largest singular value %.6g, %.1f s", np.sqrt(values[0]), time.monotonic() - clock)
    # the items' file times `rotation` is orthonormal, and the Gram matrix is that of N times it (Rayleigh and Ritz)
    return values, rotation @ vectors


def _eigen(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues, falling, and the eigenvectors of a Gram matrix, without those that are rounding."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > _ROUNDING * values[-1]
    return values[kept][::-1], vectors[:, kept][:, ::-1]


def _run(spark: SparkContext, pairs: Pairs, folder: Path, side: str, write: Callable[[Rows], np.ndarray]) -> np.ndarray:
    """Write the vectors of `side` in tasks, join them, and return the sum of their Gram matrices."""
    # a Python task costs a tenth of a second before it does anything: no more of them than cores
    ranges = even_ranges(pairs.degrees(side), min(pairs.parts, spark.defaultParallelism))
    gram = np.sum(run_tasks(spark, ranges, write), axis=0)
    join(folder, side, [start for start, _ in ranges], np.float32, len(gram))
    return gram


def _start(pairs: Pairs, folder: Path, power: float, width: int, rows: Rows) -> np.ndarray:
    """Write a vector of hashed signs for each user. Returns an empty Gram matrix."""
    (start, stop), indptr = rows, pairs.csr(USERS).indptr
    words = -(-width // 64)
    with whole_file(part_path(folder, USERS, start)) as file:
        for lo in range(start, stop, ROWS):
            users = np.arange(lo, min(lo + ROWS, stop))
            bits = np.unpackbits(mixed(users[:, None] * words + np.arange(words)).view(np.uint8), axis=1)
            scale = _scale(indptr[lo : users[-1] + 2], power)
            file.write((2 * bits[:, :width].astype(np.float32) - 1) * scale)
    return np.zeros((width, width))


def _multiply(
    pairs: Pairs, folder: Path, side: str, other: str, power: float, rotation: np.ndarray, rows: Rows
) -> np.ndarray:
    """Write some rows of N (or its transpose) times the other side's vectors times `rotation` [L, L'].

    Returns their Gram matrix float64 [L', L']. A file holds D^-power times its vectors, because the other side adds
    these up. So each side reads its own degrees only.
    """
    (start, stop), csr = rows, pairs.csr(side)
    others, rotation = load(folder / f"{other}.npy"), rotation.astype(np.float32)
    gram = np.zeros((rotation.shape[1], rotation.shape[1]))
    with whole_file(part_path(folder, side, start)) as file:
        for lo in range(start, stop, ROWS):
            indptr = csr.indptr[lo : min(lo + ROWS, stop) + 1]
            sums = np.zeros((len(indptr) - 1, others.shape[1]), np.float32)
            _add_vectors(indptr, csr.indices, others, sums)
            scale = _scale(indptr, power)
            vectors = (sums * scale) @ rotation
            wide = vectors.astype(np.float64)
            gram += wide.T @ wide
            file.write(vectors * scale)
    return gram


def _scale(indptr: np.ndarray, power: float) -> np.ndarray:
    """Return float32 [rows, 1], the degrees to the power -`power`."""
    degrees = np.maximum(np.diff(indptr), 1).astype(np.float64)
    return (degrees**-power).astype(np.float32)[:, None]


@compiled
def _add_vectors(indptr, indices, others, sums):  # type: ignore[no-untyped-def]
    """Add to sums float32 [rows, L] the vectors of each row's entries, without a copy of the entries."""
    for row in range(len(sums)):
        total = sums[row]
        for at in range(indptr[row], indptr[row + 1]):
            vector = others[indices[at]]
            for f in range(len(total)):
                total[f] += vector[f]


def _items(folder: Path, rotation: np.ndarray) -> np.ndarray:
    """Return the items' file times `rotation`, float32 [I, F]. The largest entry of each column is above zero."""
    items = load(folder / f"{ITEMS}.npy") @ rotation.astype(np.float32)
    items *= np.where(items.max(axis=0) >= -items.min(axis=0), np.float32(1), np.float32(-1))
    return items
