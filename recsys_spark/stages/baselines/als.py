"""Implicit ALS over Spark: each half-step is one small job whose tasks solve blocks (models/ridge.py has the arithmetic).

Tasks read the pairs and the other side's vectors memory-mapped and write their own vectors to a file. Through the driver go the blocks'
Gram matrices and losses only, so its memory does not depend on the number of users.

Shapes:  I items counting the padding item 0 · F factors · n blocks
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyspark import SparkContext

from recsys_spark.models.als import FactorModel
from recsys_spark.models.ridge import Objective, System, gram_of, solve_rows
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Csr, Pairs, Shards, save_array

log = logging.getLogger(__name__)


class HalfStep(NamedTuple):
    """What a block (or, summed, a side) says of its solution: the Gram matrix float64 [F, F] of the new vectors, their rows' part of
    the objective, and of that their own ridge terms."""

    gram: np.ndarray
    loss: float
    ridge: float


def fit(
    spark: SparkContext,
    pairs: Pairs,
    folder: Path,
    *,
    factors: int,
    iterations: int,
    seed: int,
    objective: Objective,
    start: np.ndarray | None = None,
) -> tuple[FactorModel, list[float]]:
    """The model, and the objective after each iteration. `folder` takes the vectors while the fit runs.

    Starts from `start`, vectors float32 [I', F] of the first I' items in an earlier fit, where they are not zero, and for other items
    from normal vectors of deviation 0.1 / sqrt(factors), as iALS does. Ends with the items, so that fold-in meets the very vectors that
    the last half-step of the users would.
    """
    items = _first_items(pairs, factors, seed, start)
    folder.mkdir(parents=True)
    for block in range(pairs.blocks):
        save_array(_path(folder, ITEMS, block), items[block :: pairs.blocks])
    gram, objectives = gram_of(items), []
    half_step = partial(_half_step, spark, pairs, folder, objective)
    for iteration in range(1, iterations + 1):
        clock = time.monotonic()
        users = half_step(USERS, ITEMS, gram)
        gram, loss, _ = half_step(ITEMS, USERS, users.gram)
        objectives.append(loss + users.ridge)
        log.info(
            "als: iteration %d of %d, objective %.6g, %.1f s",
            iteration,
            iterations,
            objectives[-1],
            time.monotonic() - clock,
        )
    for block in range(pairs.blocks):
        items[block :: pairs.blocks] = np.load(_path(folder, ITEMS, block))
    return FactorModel(len(items), vars(objective), {"items": items, "gram": gram.astype(np.float32)}), objectives


def _first_items(pairs: Pairs, factors: int, seed: int, start: np.ndarray | None) -> np.ndarray:
    deviation = 0.1 / np.sqrt(factors)
    items = np.random.default_rng(seed).normal(0, deviation, (pairs.rows[ITEMS], factors)).astype(np.float32)
    if start is not None:
        known = np.flatnonzero(start[: len(items)].any(axis=1))
        items[known] = start[known]
    items[pairs.degrees(ITEMS) == 0] = 0
    return items


def _half_step(
    spark: SparkContext,
    pairs: Pairs,
    folder: Path,
    objective: Objective,
    side: str,
    other: str,
    gram: np.ndarray,
) -> HalfStep:
    """Solve every row of `side`, given the vectors of `other` and their Gram matrix."""
    system = System.of(objective, gram)
    solve = partial(solve_blocks, pairs, folder, side, other, system)
    # a Python task costs a tenth of a second before it does anything, and these are short: no more of them than cores
    tasks = min(pairs.blocks, spark.defaultParallelism)
    blocks = [range(first, pairs.blocks, tasks) for first in range(tasks)]
    done = spark.parallelize(blocks, tasks).map(solve).collect()
    return HalfStep(*(sum(part) for part in zip(*done)))


def solve_blocks(pairs: Pairs, folder: Path, side: str, other: str, system: System, blocks: Iterable[int]) -> HalfStep:
    """The vectors of some blocks, from files to files."""
    others = Shards([_path(folder, other, b) for b in range(pairs.blocks)])
    done = (_solve_block(pairs.block(side, b), others, system, _path(folder, side, b)) for b in blocks)
    return HalfStep(*(sum(part) for part in zip(*done)))


def _solve_block(csr: Csr, others: Shards, system: System, path: Path) -> HalfStep:
    vectors, losses = solve_rows(csr.indptr, csr.indices, csr.weights, others, system)
    save_array(path, vectors)
    ridge = system.objective.ridge(np.diff(csr.indptr))
    squares = np.einsum("rf,rf->r", vectors, vectors, dtype=np.float64)
    return HalfStep(gram_of(vectors), float(losses.sum()), float(ridge @ squares))


def _path(folder: Path, side: str, block: int) -> Path:
    return folder / f"{side}-{block}.npy"
