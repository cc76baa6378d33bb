"""What a night costs beyond this machine: a formula a stage, coefficients fitted to build/bench/results.json, and a stated night on a stated cluster.

    python benchmarks/cost_model.py [PAGE]    prints the tables, or puts them into PAGE between its two `figures` marks

Core-seconds of a stage are a fixed part and some kinds of work, each in proportion (non-negative least squares of the relative errors, over all cases of
the stage that tell their sizes). Bytes and memory are counted from the tables' schemas and the code, not fitted. A stage that has not been measured has no
hours.
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
    """A night. `pairs` are distinct (user, item), `squares` the sum over users of their pairs squared."""

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
    """Models that score by inner products."""
    blocks: float = 12_000
    """`baselines.tasks`: a block should have a million pairs."""

    @property
    def factor_work(self) -> float:
        """Floating-point operations of all half-steps: two products of F x F a pair and side, a Cholesky solve a row."""
        f = self.factors
        return self.iterations * (4 * self.pairs * f**2 + (self.users + self.items) * f**3 / 3)


@dataclass(frozen=True)
class Cluster:
    nodes: int = 100
    cores: int = 32
    memory: float = 256 * GB
    network: float = 25e9 / 8
    """Bytes a second, in and out, of a node."""
    useful: float = 0.5
    """Share of the network that a shuffle gets."""


@dataclass(frozen=True)
class Stage:
    """`cases`: how the names of its cases begin. `work`: what its core-seconds are in proportion to, by name. `shuffled`: bytes that cross the
    network. `mapped`: bytes of files that every node reads through. `private`: bytes of memory of a task."""

    name: str
    cases: tuple[str, ...]
    work: Mapping[str, Callable[[Size], float]]
    shuffled: Callable[[Size], float]
    mapped: Callable[[Size], float]
    private: Callable[[Size], float]


STAGES = (
    Stage("clean", ("clean",), {"event": lambda s: s.events},
          # by their key to drop duplicates, by user_id and by item_id to number them: 3 times 80 bytes
          lambda s: 240 * s.events, lambda s: 0, lambda s: 1 * GB),
    Stage("split", ("split",), {"event": lambda s: s.events},
          lambda s: 40 * s.events, lambda s: 0, lambda s: 1 * GB),
    Stage("features", ("features",), {"event": lambda s: s.events},
          # pairs by user, then examples with their windows of 50 items and recencies by row group
          lambda s: 28 * s.pairs + 400 * s.examples, lambda s: 0, lambda s: 1 * GB),
    Stage("item_knn", ("item similarity",), {"common user": lambda s: s.squares},
          # pairs by user and by item; each node maps both
          lambda s: 48 * s.pairs, lambda s: 24 * s.pairs, lambda s: 50 * s.items),
    Stage("als", ("als",), {"flop": lambda s: s.factor_work},
          # each node reads the larger side's vectors once an iteration, and the smaller side's
          lambda s: 48 * s.pairs, lambda s: 24 * s.pairs + s.iterations * 4 * s.factors * (s.users + s.items),
          # a block's rows, and its entries while it is written, 50 bytes each
          lambda s: 0.2 * GB + 4 * s.factors * s.users / s.blocks + 50 * s.pairs / s.blocks),
    # vectors of even lengths, of which all products are taken; a real log's are not, and need fewer
    Stage("score, inner products", ("top-N 200,000", "top-N memory"),
          {"user": lambda s: s.users, "user x item x factor": lambda s: s.users * s.items * s.factors * s.models},
          lambda s: 16 * s.pairs + 20 * 40 * s.users, lambda s: 4 * s.factors * s.items * s.models, lambda s: 0.3 * GB + s.items),
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
    """Sum over users of their pairs squared under the generated logs' law: pairs of the r-th user in proportion to (r + offset)^-exponent."""
    a, q = USER_LAW
    total = ((users + q) ** (1 - a) - q ** (1 - a)) / (1 - a)
    squared = (q ** (1 - 2 * a) - (users + q) ** (1 - 2 * a)) / (2 * a - 1)
    return pairs**2 * squared / total**2


def size_of(entry: Mapping[str, Any]) -> Size:
    """The size of a case, from its config (`users`, `items`, `events`, `pairs`, `squares`, `factors`, `iterations`, `neighbours`, `examples` of one
    epoch) or else its facts, and the factors from its name; what they do not tell is 0."""
    told = {**(entry["ours_facts"] or {}), **entry["config"]}
    if factors := re.search(r"(\d+) factors", entry["case"]):
        told["factors"] = int(factors[1])
    pairs = told.get("pairs", told.get("events", told.get("users", 0) * told.get("seen_by_each", 0)))
    users = told.get("users", 0)
    squares = told.get("squares", squares_of(users, pairs) if users else 0)
    known = {name: told[name] for name in ("factors", "iterations", "neighbours", "examples") if name in told}
    return Size(users, told.get("items", 0), told.get("events", pairs), pairs, squares, epochs=1, models=1, **known)


def fit(stage: Stage, entries: list[Mapping[str, Any]]) -> tuple[np.ndarray, int, float | None] | None:
    """Core-seconds a unit, the fixed ones first; the number of cases; the largest relative error, None where there are no more cases than
    unknowns. None without a case."""
    cases = {e["case"]: e for e in entries if e["case"].startswith(stage.cases)}
    rows = [[1.0, *(work(size_of(e)) for work in stage.work.values())] for e in cases.values()]
    seconds = [e["ours_seconds"] * min(e["config"].get("cores", 2), e["machine"]["cores"]) for e in cases.values()]
    known = [at for at, row in enumerate(rows) if all(row)]
    if not known:
        return None
    matrix, wanted = np.array(rows)[known], np.array(seconds)[known]
    # fewer cases than unknowns: all is work of the last kind, which can only make the forecast dearer
    free = np.arange(matrix.shape[1]) if len(known) >= matrix.shape[1] else np.array([matrix.shape[1] - 1])
    scale = matrix[:, free].max(axis=0)
    found, _ = nnls(matrix[:, free] / scale / wanted[:, None], np.ones(len(known)))
    coefficients = np.zeros(matrix.shape[1])
    coefficients[free] = found / scale
    misfit = float(np.abs(matrix @ coefficients / wanted - 1).max()) if len(known) > len(free) else None
    return coefficients, len(known), misfit


def forecast(entries: list[Mapping[str, Any]], night: Size, cluster: Cluster) -> Iterator[str]:
    """The tables: coefficients; hours, bytes and memory of the night."""
    fits = {stage.name: fit(stage, entries) for stage in STAGES}
    yield "| stage | core-seconds | cases | largest misfit |\n|---|---|---|---|"
    for stage in STAGES:
        found = fits[stage.name]
        if found is None:
            yield f"| {stage.name} | not measured | 0 | |"
            continue
        coefficients, count, misfit = found
        terms = [f"{coefficients[0]:.2g}"] if coefficients[0] else []
        terms += [f"{c:.2e} a {unit}" for c, unit in zip(coefficients[1:], stage.work) if c]
        told = "none left over" if misfit is None else f"{misfit:.0%}"
        yield f"| {stage.name} | {' + '.join(terms)} | {count} | {told} |"
    yield f"\n{_told(night)} On {_told_cluster(cluster)}\n"
    yield "| stage | core-hours | minutes of work | shuffled, TB | minutes of shuffle | read by every node, GB | minutes to read | memory of 32 tasks, GB |"
    yield "|---|---|---|---|---|---|---|---|"
    total = 0.0
    for stage in STAGES:
        row, minutes = _night_row(stage, fits[stage.name], night, cluster)
        total += minutes
        yield row
    yield f"\nAll that was measured, one after the other: {total / 60:.1f} hours. Work is counted as if a core were one of these and none ever waited. Not measured alone, and in no row: {', '.join(UNMEASURED)}."


def _night_row(
    stage: Stage, found: tuple[np.ndarray, int, float | None] | None, night: Size, cluster: Cluster
) -> tuple[str, float]:
    bandwidth = cluster.network * cluster.useful
    shuffle = stage.shuffled(night) / cluster.nodes / bandwidth / 60
    read = stage.mapped(night) / bandwidth / 60
    private = cluster.cores * stage.private(night) / GB
    hours, work = "not measured", 0.0
    if found:
        core_seconds = found[0] @ [1.0, *(each(night) for each in stage.work.values())]
        hours, work = f"{core_seconds / 3600:,.0f}", core_seconds / cluster.nodes / cluster.cores / 60
    told = f"{work:,.1f}" if found else ""
    row = (
        f"| {stage.name} | {hours} | {told} | {stage.shuffled(night) / 1e12:.2g} | {shuffle:.1f} "
        f"| {stage.mapped(night) / GB:,.1f} | {read:.1f} | {private:,.0f} |"
    )
    return row, work + shuffle + read


def _told(night: Size) -> str:
    return (
        f"The night: {night.users:.3g} users, {night.items:.3g} items, {night.events:.3g} events, {night.pairs:.3g} pairs of user and item "
        f"({night.pairs / night.users:.0f} a user on average), {night.examples:.3g} training examples; {night.factors:.0f} factors, "
        f"{night.iterations:.0f} iterations, {night.neighbours:.0f} neighbours, {night.epochs:.0f} epochs, {night.models:.0f} inner-product models."
    )


def _told_cluster(cluster: Cluster) -> str:
    return (
        f"{cluster.nodes} nodes of {cluster.cores} cores and {cluster.memory / GB:.0f} GB, {cluster.network * 8 / GB:.0f} Gb/s each, "
        f"of which shuffles get {cluster.useful:.0%}:"
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
