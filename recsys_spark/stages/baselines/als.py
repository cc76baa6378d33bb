"""Implicit ALS over Spark: a half-step solves one side, and its tasks solve ranges of rows (models/als.py).

Tasks map the pairs and the other side's vectors into memory and write their own vectors to part files. They return
Gram matrices and sums. The driver joins the parts and rotates them, some rows at a time. So no memory depends on the
number of users.

Shapes:  I items, counting the padding item 0 · F factors
"""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyspark import SparkContext

from recsys_spark.models.als import AlsModel, Objective, eigenbasis, gram_of, solve_rows
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, Pairs
from recsys_spark.stages.baselines.parts import even_ranges, join, load, part_path, run_tasks, whole_file

log = logging.getLogger(__name__)

_NUMBERS = 1 << 21
"""Numbers of the vectors that a task solves before it writes them: 8 MiB."""
_TOLERANCE = 1e-4
"""The next half-step replaces these vectors. On Gowalla the objective after 15 iterations is the same to six digits as
with exact vectors, and solving takes two thirds of the time."""
_OTHER = {USERS: ITEMS, ITEMS: USERS}


class HalfStep(NamedTuple):
    """Sums over some rows of a side: the Gram matrix float64 [F, F], their part of the objective, and their ridge."""

    gram: np.ndarray
    loss: float
    ridge: float


def fit(context: FitContext, scratch: Path) -> tuple[AlsModel, dict[str, Any]]:
    """Fit the model of the registry entry `als`."""
    s, warm = context.settings, context.warm_start
    objective = Objective(s.confidence, s.unobserved_weight, s.regularization, s.regularization_exponent)
    sizes: dict[str, Any] = {"factors": s.factors, "iterations": s.iterations, "seed": s.seed}
    if warm:
        log.info("als: starts from the vectors of run %s", warm.run_id)
        sizes |= {"iterations": s.warm_iterations, "start": warm.items()}
    model, objectives = fit_pairs(context.spark, context.pairs, scratch, objective=objective, **sizes)
    return model, {"als_objective": objectives}


def fit_pairs(
    spark: SparkContext,
    pairs: Pairs,
    folder: Path,
    *,
    factors: int,
    iterations: int,
    seed: int,
    objective: Objective,
    start: np.ndarray | None = None,
) -> tuple[AlsModel, list[float]]:
    """Return the model, and the objective after each iteration. `folder` takes the vectors.

    Starts from `start`, vectors float32 [I', F] of the first I' items in an earlier fit, where they are not zero. Other
    items start from normal vectors of deviation 0.1 / sqrt(factors), as in iALS. The last half-step solves the items,
    so that fold-in meets the same vectors as a half-step of the users would.
    """
    folder.mkdir(parents=True)
    items = _first_items(pairs, factors, seed, start)
    spectrum, basis = eigenbasis(gram_of(items))
    np.save(folder / f"{ITEMS}.npy", items @ basis)
    half_step, objectives = partial(_half_step, spark, pairs, folder, objective), []
    for iteration in range(1, iterations + 1):
        clock = time.monotonic()
        users_spectrum, _, users_ridge = half_step(USERS, spectrum)
        spectrum, loss, _ = half_step(ITEMS, users_spectrum)
        objectives.append(loss + users_ridge)
        seconds = time.monotonic() - clock
        log.info("als: iteration %d of %d, objective %.6g, %.1f s", iteration, iterations, objectives[-1], seconds)
    arrays = {"items": load(folder / f"{ITEMS}.npy"), "spectrum": spectrum}
    return AlsModel(len(items), vars(objective), arrays), objectives


def _first_items(pairs: Pairs, factors: int, seed: int, start: np.ndarray | None) -> np.ndarray:
    deviation = 0.1 / np.sqrt(factors)
    items = np.random.default_rng(seed).normal(0, deviation, (pairs.rows[ITEMS], factors)).astype(np.float32)
    if start is not None:
        kept = np.flatnonzero(start[: len(items)].any(axis=1))
        items[kept] = start[kept]
    items[pairs.degrees(ITEMS) == 0] = 0
    return items


def _half_step(
    spark: SparkContext, pairs: Pairs, folder: Path, objective: Objective, side: str, spectrum: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Solve every row of `side`, given the other side, and save it in its eigenbasis.

    Returns the eigenvalues of its Gram matrix, and the loss and the ridge terms of its rows.
    """
    # a Python task costs a tenth of a second before it does anything, and these are short: no more of them than cores
    ranges = even_ranges(pairs.degrees(side), min(pairs.parts, spark.defaultParallelism))
    solve = partial(solve_range, pairs, folder, objective, side, spectrum)
    done = run_tasks(spark, ranges, solve)
    gram, loss, ridge = (sum(part) for part in zip(*done, strict=True))
    eigenvalues, basis = eigenbasis(gram)
    join(folder, side, [start for start, _ in ranges], np.float32, len(basis), lambda vectors: vectors @ basis)
    return eigenvalues, loss, ridge


def solve_range(
    pairs: Pairs, folder: Path, objective: Objective, side: str, spectrum: np.ndarray, rows: tuple[int, int]
) -> HalfStep:
    """One task: solve the rows start:stop of `side` and write them to a part file."""
    (start, stop), csr = rows, pairs.csr(side)
    others = load(folder / f"{_OTHER[side]}.npy")
    step, done = max(1, _NUMBERS // others.shape[1]), []
    with whole_file(part_path(folder, side, start)) as file:
        for lo in range(start, stop, step):
            indptr = csr.indptr[lo : min(lo + step, stop) + 1]
            vectors, minima = solve_rows(objective, spectrum, others, indptr, csr.indices, csr.weights, _TOLERANCE)
            file.write(vectors)
            squares = np.einsum("rf,rf->r", vectors, vectors, dtype=np.float64)
            ridge = float(objective.ridge(np.diff(indptr)) @ squares)
            done.append(HalfStep(gram_of(vectors), float(minima.sum()), ridge))
    return HalfStep(*(sum(part) for part in zip(*done, strict=True)))
