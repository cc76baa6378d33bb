"""The top singular vectors of the normalised pairs over Spark, by block subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011).

A half-step multiplies the vectors of one side by N or its transpose: for each row of the other side, the sum of the vectors of the row's
entries. Tasks read the pairs and the vectors memory-mapped and write their own, a block at a time; through the driver go Gram matrices and
what they are turned by. A Gram matrix's eigenvectors make the next factor orthonormal (Stathopoulos and Wu, SIAM J. Sci. Comput. 2002): like Cholesky's
factor at the price of the same two products, but a block of less than full rank only becomes narrower.

Vectors are multiplied in float32, Gram matrices summed in float64. The start depends on nothing but the rows' numbers, and a row's sum on no
block, so the model is the same for any number of tasks but for the rounding of the Gram matrices' sums.

Shapes:  I items counting the padding item 0 · R rows of a block · F factors · L factors and some more: width of the vectors · n blocks
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from pyspark import SparkContext

from recsys_spark.hashing import mixed
from recsys_spark.jit import compiled
from recsys_spark.models.svd import SpectralModel
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Pairs, Shards, whole_file, write_header
from recsys_spark.stages.baselines.rows import vector_of

log = logging.getLogger(__name__)

MORE = 64
"""Vectors beyond the factors: what they hold of the wanted ones is not lost."""
PASSES = 4
"""Multiplications by N^T N after the first by N^T. On Gowalla three give as good lists as the exact vectors do, which takes ten times as long."""
ROWS = 4096
"""Rows worked on at a time: with 576 vectors three arrays of 9 or 18 MB."""
NOTHING = 1e-9
"""An eigenvalue of a Gram matrix beside the largest, below which there are float32's roundings only."""


def fit(
    spark: SparkContext,
    pairs: Pairs,
    folder: Path,
    *,
    factors: int,
    user_power: float,
    item_power: float,
    singular_power: float,
    target_power: float,
) -> SpectralModel:
    """The model, with fewer factors where the pairs have no more. `folder` takes the vectors while the fit runs."""
    folder.mkdir(parents=True)
    degrees = np.maximum(pairs.degrees(ITEMS), 1).astype(np.float64)
    powers = {USERS: user_power, ITEMS: item_power}
    width = min(factors + MORE, pairs.active[USERS], pairs.active[ITEMS])
    if width:
        values, turn = _iterate(partial(_on_blocks, spark, pairs), pairs, folder, powers, width)
        sigma, items = np.sqrt(values[:factors]), _items(pairs, folder, turn[:, :factors])
    else:
        sigma, items = np.zeros(1), np.zeros((pairs.rows[ITEMS], 1), np.float32)
    # the files hold D^-power times a vector, see `_multiply_block`
    items *= (degrees ** (item_power + target_power)).astype(np.float32)[:, None]
    arrays = {
        "items": items,
        "weights": degrees ** -(item_power + target_power),
        "spectrum": sigma**singular_power,
    }
    return SpectralModel(pairs.rows[ITEMS], {}, arrays)


Blocks = Callable[[Callable[[int], np.ndarray]], np.ndarray]
"""Calls a function for every block and adds up what it returns."""


def _iterate(
    on_blocks: Blocks, pairs: Pairs, folder: Path, powers: dict[str, float], width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the singular values float64 [L], falling, and the turn float32 [L, L] that makes the singular vectors of the items' files."""
    clock = time.monotonic()
    on_blocks(partial(_start_block, pairs, folder, powers[USERS], width))
    basis = np.eye(width)
    for _ in range(PASSES + 1):
        for side, other in ((ITEMS, USERS), (USERS, ITEMS)):
            turn = basis
            gram = on_blocks(partial(_multiply_block, pairs, folder, side, other, powers[side], turn))
            values, vectors = _spectrum(gram)
            basis = vectors / np.sqrt(values)
        log.info("svd: largest singular value %.6g, %.1f s", np.sqrt(values[0]), time.monotonic() - clock)
    # the items' files times `turn` are orthonormal, and the Gram matrix is that of N times them (Rayleigh and Ritz)
    return values, turn @ vectors


def _spectrum(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, falling, and eigenvectors of a Gram matrix; what is nothing but rounding is left out."""
    values, vectors = np.linalg.eigh(gram)
    real = values > NOTHING * values[-1]
    return values[real][::-1], vectors[:, real][:, ::-1]


def _on_blocks(spark: SparkContext, pairs: Pairs, work: Callable[[int], np.ndarray]) -> np.ndarray:
    # a Python task costs a tenth of a second before it does anything: no more of them than cores
    tasks = min(pairs.blocks, spark.defaultParallelism)
    blocks = [range(first, pairs.blocks, tasks) for first in range(tasks)]
    return np.sum(spark.parallelize(blocks, tasks).map(partial(_total, work)).collect(), axis=0)


def _total(work: Callable[[int], np.ndarray], blocks: Iterable[int]) -> np.ndarray:
    """One task."""
    return sum(work(block) for block in blocks)  # type: ignore[return-value]


def _start_block(pairs: Pairs, folder: Path, power: float, width: int, block: int) -> np.ndarray:
    """Write vectors of signs that look thrown, one a user. Nothing is added up."""
    lengths = np.diff(pairs.block(USERS, block).indptr)
    words = -(-width // 64)
    with whole_file(_path(folder, USERS, block)) as file:
        write_header(file, np.dtype(np.float32), (len(lengths), width))
        for lo in range(0, len(lengths), ROWS):
            rows = block + pairs.blocks * np.arange(lo, min(lo + ROWS, len(lengths)))
            bits = np.unpackbits(mixed(rows[:, None] * words + np.arange(words)).view(np.uint8), axis=1)
            scale = _scale(lengths[lo : lo + ROWS], power)
            file.write((2 * bits[:, :width].astype(np.float32) - 1) * scale[:, None])
    return np.zeros(())


def _multiply_block(
    pairs: Pairs, folder: Path, side: str, other: str, power: float, turn: np.ndarray, block: int
) -> np.ndarray:
    """Write a block's rows of N (or its transpose) times the other side's vectors times `turn` [L, L']; returns their Gram matrix float64 [L', L'].

    A file holds D^-power times its vectors: this is what the other side adds up, so each side's degrees are met at home.
    """
    csr = pairs.block(side, block)
    others = Shards([_path(folder, other, b) for b in range(pairs.blocks)])
    lengths, turn = np.diff(csr.indptr), turn.astype(np.float32)
    gram = np.zeros((turn.shape[1], turn.shape[1]))
    sums = np.empty((ROWS, others.shape[1]), np.float32)
    with whole_file(_path(folder, side, block)) as file:
        write_header(file, np.dtype(np.float32), (len(lengths), turn.shape[1]))
        for lo in range(0, len(lengths), ROWS):
            part = sums[: len(lengths) - lo]
            _add_vectors(csr.indptr[lo : lo + len(part) + 1], csr.indices, others.starts, part)
            scale = _scale(lengths[lo : lo + ROWS], power)[:, None]
            vectors = (part * scale) @ turn
            wide = vectors.astype(np.float64)
            gram += wide.T @ wide
            file.write(vectors * scale)
    return gram


def _scale(degrees: np.ndarray, power: float) -> np.ndarray:
    return (np.maximum(degrees, 1).astype(np.float64) ** -power).astype(np.float32)


@compiled
def _add_vectors(indptr: np.ndarray, indices: np.ndarray, starts: np.ndarray, sums: np.ndarray) -> None:
    """sums float32 [rows, L] of the vectors of each row's entries, in their order."""
    width = sums.shape[1]
    for row in range(len(sums)):
        total = sums[row]
        total[:] = 0
        for at in range(indptr[row], indptr[row + 1]):
            vector = vector_of(starts, indices[at], width)
            for f in range(width):
                total[f] += vector[f]


def _items(pairs: Pairs, folder: Path, turn: np.ndarray) -> np.ndarray:
    """float32 [I, F]: the items' files times `turn`, each column with the sign that makes its largest entry one above zero."""
    items = np.empty((pairs.rows[ITEMS], turn.shape[1]), np.float32)
    for block in range(pairs.blocks):
        vectors = np.load(_path(folder, ITEMS, block), mmap_mode="r")
        items[block :: pairs.blocks] = vectors @ turn.astype(np.float32)
    items *= np.where(items.max(axis=0) >= -items.min(axis=0), np.float32(1), np.float32(-1))
    return items


def _path(folder: Path, side: str, block: int) -> Path:
    return folder / f"{side}-{block}.npy"
