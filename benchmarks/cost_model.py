"""Forecasts the cost of a large night on a cluster from the figures in build/bench/results.json.

    python benchmarks/cost_model.py [PAGE]

Without PAGE it prints the tables. With PAGE it replaces the text between the two `figures` marks of that file.

The core-seconds of a stage are the sum of a constant and terms proportional to its kinds of work. The coefficients are
fitted by non-negative least squares of the relative errors, over all cases of the stage that state their sizes. Bytes
and memory are counted from the tables' schemas and the code. A stage without a measured case has no hours.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import results
from logs import USER_LAW
from page import put
from scipy.optimize import nnls

GB = 1e9


@dataclass(frozen=True)
class Size:
    """The size of a night. `pairs` counts distinct (user, item). `squares` is the sum over users of their pairs
    squared.
    """

    users: float
    items: float
    events: float
    pairs: float
    squares: float
    factors: float = 64
    iterations: float = 12
    neighbours: float = 1000
    examples: float = 0
    epochs: float = 6
    models: float = 2
    """Number of models that score by inner products."""
    blocks: float = 12_000
    """`baselines.tasks`. A block should have about a million pairs."""

    @property
    def factor_work(self) -> float:
        """Return the floating-point operations of ALS.

        Each half-step takes two F x F products for each pair and a Cholesky solve for each row.
        """
        f = self.factors
        return self.iterations * (4 * self.pairs * f**2 + (self.users + self.items) * f**3 / 3)


@dataclass(frozen=True)
class Cluster:
    nodes: int = 100
    cores: int = 32
    memory: float = 256 * GB
    network: float = 25e9 / 8
    """Bytes per second of a node, in and out."""
    useful: float = 0.5
    """Share of the network that a shuffle can use."""


@dataclass(frozen=True)
class Stage:
    """The formulas of a stage.

    `cases` are the beginnings of the names of its cases. `work` maps each kind of work to its amount. `shuffled` is the
    number of bytes that cross the network, `mapped` the bytes of files that every node reads, `private` the bytes of
    memory of a task.
    """

    name: str
    cases: tuple[str, ...]
    work: Mapping[str, Callable[[Size], float]]
    shuffled: Callable[[Size], float]
    mapped: Callable[[Size], float]
    private: Callable[[Size], float]


STAGES = (
    Stage("clean", ("clean",), {"event": lambda s: s.events},
          # by key to drop duplicates, then by user_id and by item_id to number them: 3 times 80 bytes
          lambda s: 240 * s.events, lambda s: 0, lambda s: 1 * GB),
    Stage("split", ("split",), {"event": lambda s: s.events},
          lambda s: 40 * s.events, lambda s: 0, lambda s: 1 * GB),
    Stage("features", ("features",), {"event": lambda s: s.events},
          # pairs by user, then examples with their windows of 50 items and recencies by row group
          lambda s: 28 * s.pairs + 400 * s.examples, lambda s: 0, lambda s: 1 * GB),
    Stage("item_knn", ("item similarity",), {"common user": lambda s: s.squares},
          # pairs by user and by item. Each node maps both
          lambda s: 48 * s.pairs, lambda s: 24 * s.pairs, lambda s: 50 * s.items),
    Stage("als", ("als",), {"flop": lambda s: s.factor_work},
          # each node reads the vectors of both sides once an iteration
          lambda s: 48 * s.pairs, lambda s: 24 * s.pairs + s.iterations * 4 * s.factors * (s.users + s.items),
          # a block's rows, and its entries while it is written, 50 bytes each
          lambda s: 0.2 * GB + 4 * s.factors * s.users / s.blocks + 50 * s.pairs / s.blocks),
    # generated vectors have equal lengths, so all products are computed. A real log needs fewer
    Stage("score, inner products", ("top-N 200,000", "top-N memory"),
          {"user": lambda s: s.users, "user x item x factor": lambda s: s.users * s.items * s.factors * s.models},
          lambda s: 16 * s.pairs + 20 * 40 * s.users, lambda s: 4 * s.factors * s.items * s.models,
          lambda s: 0.3 * GB + s.items),
    Stage("score, neighbour table", ("neighbour-table top-N",), {"pair x neighbour": lambda s: s.pairs * s.neighbours},
          lambda s: 0, lambda s: 8 * s.neighbours * s.items, lambda s: 0.3 * GB + 16 * s.items),
    Stage("train", ("training, Horovod two ranks",), {"example": lambda s: s.examples * s.epochs},
          lambda s: 0, lambda s: 0, lambda s: 4 * 3 * s.factors * s.items),
)  # fmt: skip


UNMEASURED = (
    "item_ridge",
    "svd",
    "user_knn",
    "content",
    "the choice of the blend and the ranker",
    "evaluate",
    "publish",
)


def squares_of(users: float, pairs: float) -> float:
    """Return the sum over users of their pairs squared, for the distribution of the generated logs.

    The pairs of the r-th user are proportional to (r + offset)^-exponent.
    """
    a, q = USER_LAW
    total = ((users + q) ** (1 - a) - q ** (1 - a)) / (1 - a)
    squared = (q ** (1 - 2 * a) - (users + q) ** (1 - 2 * a)) / (2 * a - 1)
    return pairs**2 * squared / total**2


def size_of(entry: Mapping[str, Any]) -> Size:
    """Return the size of a case, from its config or else its facts, and its factors from its name. A missing size is 0.

    Names: `users`, `items`, `events`, `pairs`, `squares`, `factors`, `iterations`, `neighbours`, `examples` of one
    epoch.
    """
    sizes = {**(entry["ours_facts"] or {}), **entry["config"]}
    if factors := re.search(r"(\d+) factors", entry["case"]):
        sizes["factors"] = int(factors[1])
    pairs = sizes.get("pairs", sizes.get("events", sizes.get("users", 0) * sizes.get("seen_by_each", 0)))
    users = sizes.get("users", 0)
    squares = sizes.get("squares", squares_of(users, pairs) if users else 0)
    stated = {name: sizes[name] for name in ("factors", "iterations", "neighbours", "examples") if name in sizes}
    return Size(users, sizes.get("items", 0), sizes.get("events", pairs), pairs, squares, epochs=1, models=1, **stated)


def fit(stage: Stage, entries: list[Mapping[str, Any]]) -> tuple[np.ndarray, int, float | None] | None:
    """Return the coefficients of a stage, the number of its cases and the largest relative error. None without a case.

    The first coefficient is the constant, the others are core-seconds per unit of work. The error is None if there are
    no more cases than coefficients.
    """
    cases = {e["case"]: e for e in entries if e["case"].startswith(stage.cases)}
    rows = [[1.0, *(work(size_of(e)) for work in stage.work.values())] for e in cases.values()]
    seconds = [e["ours_seconds"] * min(e["config"].get("cores", 2), e["machine"]["cores"]) for e in cases.values()]
    complete = [at for at, row in enumerate(rows) if all(row)]
    if not complete:
        return None
    matrix, target = np.array(rows)[complete], np.array(seconds)[complete]
    # with fewer cases than coefficients, all work counts as the last kind, which can only raise the forecast
    free = np.arange(matrix.shape[1]) if len(target) >= matrix.shape[1] else np.array([matrix.shape[1] - 1])
    scale = matrix[:, free].max(axis=0)
    solution, _ = nnls(matrix[:, free] / scale / target[:, None], np.ones(len(target)))
    coefficients = np.zeros(matrix.shape[1])
    coefficients[free] = solution / scale
    misfit = float(np.abs(matrix @ coefficients / target - 1).max()) if len(target) > len(free) else None
    return coefficients, len(target), misfit


def forecast(entries: list[Mapping[str, Any]], night: Size, cluster: Cluster) -> Iterator[str]:
    """Yield the lines of the tables: coefficients, then hours, bytes and memory of the night."""
    fits = {stage.name: fit(stage, entries) for stage in STAGES}
    yield "| stage | core-seconds | cases | largest error |\n|---|---|---|---|"
    for stage in STAGES:
        fitted = fits[stage.name]
        if fitted is None:
            yield f"| {stage.name} | not measured | 0 | |"
            continue
        coefficients, count, misfit = fitted
        terms = [f"{coefficients[0]:.2g}"] if coefficients[0] else []
        terms += [f"{c:.2e} a {unit}" for c, unit in zip(coefficients[1:], stage.work) if c]
        error = "unknown" if misfit is None else f"{misfit:.0%}"
        yield f"| {stage.name} | {' + '.join(terms)} | {count} | {error} |"
    yield f"\n{_night_text(night)} {_cluster_text(cluster)}\n"
    yield (
        "| stage | core-hours | minutes of work | shuffled, TB | minutes of shuffle "
        "| read by every node, GB | minutes to read | memory of 32 tasks, GB |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    total = 0.0
    for stage in STAGES:
        row, minutes = _night_row(stage, fits[stage.name], night, cluster)
        total += minutes
        yield row
    yield (
        f"\nTotal of the measured stages: {total / 60:.1f} hours. This assumes cores like those of the machine above, "
        f"and that no core waits. Not included: {', '.join(UNMEASURED)}."
    )


def _night_row(
    stage: Stage, fitted: tuple[np.ndarray, int, float | None] | None, night: Size, cluster: Cluster
) -> tuple[str, float]:
    bandwidth = cluster.network * cluster.useful
    shuffle = stage.shuffled(night) / cluster.nodes / bandwidth / 60
    read = stage.mapped(night) / bandwidth / 60
    private = cluster.cores * stage.private(night) / GB
    hours, work = "not measured", 0.0
    if fitted:
        core_seconds = fitted[0] @ [1.0, *(each(night) for each in stage.work.values())]
        hours, work = f"{core_seconds / 3600:,.0f}", core_seconds / cluster.nodes / cluster.cores / 60
    minutes = f"{work:,.1f}" if fitted else ""
    row = (
        f"| {stage.name} | {hours} | {minutes} | {stage.shuffled(night) / 1e12:.2g} | {shuffle:.1f} "
        f"| {stage.mapped(night) / GB:,.1f} | {read:.1f} | {private:,.0f} |"
    )
    return row, work + shuffle + read


def _night_text(night: Size) -> str:
    return (
        f"The night: {night.users:.3g} users, {night.items:.3g} items, {night.events:.3g} events, "
        f"{night.pairs:.3g} distinct pairs of user and item ({night.pairs / night.users:.0f} a user on average), "
        f"{night.examples:.3g} training examples, {night.factors:.0f} factors, {night.iterations:.0f} iterations, "
        f"{night.neighbours:.0f} neighbours, {night.epochs:.0f} epochs, {night.models:.0f} inner-product models."
    )


def _cluster_text(cluster: Cluster) -> str:
    return (
        f"The cluster: {cluster.nodes} nodes, each with {cluster.cores} cores, {cluster.memory / GB:.0f} GB of memory "
        f"and {cluster.network * 8 / GB:.0f} Gb/s, of which a shuffle can use {cluster.useful:.0%}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path)
    for name, value in (
        ("users", 1e8),
        ("items", 1e7),
        ("events", 2e10),
        ("pairs", 1.2e10),
        ("examples", 1e9),
    ):
        parser.add_argument(f"--{name}", type=float, default=value)
    arguments = parser.parse_args()
    a = arguments
    night = Size(a.users, a.items, a.events, a.pairs, squares_of(a.users, a.pairs), examples=a.examples)
    put(a.page, "\n".join(forecast(results(), night, Cluster())))


if __name__ == "__main__":
    main()
