"""ALS: ours beside implicit (C++) and Spark MLlib: 15 iterations of 64 and of 128 factors, and how each converges.

    python benchmarks/als.py [--log ../shared/data/gowalla] [--only CASE]      into results.json, als-convergence.json and als-convergence.png

A tenth of each user's items, chosen by seed, is held out. Ours is `write_pairs` and `als.fit` as the baselines stage calls them, in local[2]: the table
of pairs read, their blocks, the two Spark jobs of every iteration, their files, and the model in the driver's memory are in its time; the blocks, which a night
writes once for ALS and cosine together, are told apart as well. The peers' times are those of their `fit` on data in memory.

The objective of all three is ours, with each one's own ridge: sum over observed (u, i) of c (1 - x.y)^2 + v * sum over all (x.y)^2. implicit and
MLlib minimise it divided by v, but for their target of observed pairs, 1 + v / c in place of 1, which is why their confidence is c / v + 1.
MLlib multiplies its ridge by the pairs of a row, implicit by nothing, ours by their square root.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from harness import BENCH, Timing, measure, peer
from logs import Events, log_or_like, write_folds
from matplotlib.figure import Figure

from recsys_spark.columns import FOLD, TRAIN
from recsys_spark.config.baselines import Baselines
from recsys_spark.metrics.ranking import hit_matrix, user_metrics
from recsys_spark.models.als import AlsModel
from recsys_spark.models.histories import Histories
from recsys_spark.models.ridge import Objective
from recsys_spark.spark.session import make_session
from recsys_spark.stages.baselines import als
from recsys_spark.stages.baselines.blocks import Pairs, blocks_for, write_pairs
from recsys_spark.storage import tables
from recsys_spark.topk import Exclusions, top_k

ITERATIONS = 15
POINTS = 1, 2, 3, 5, 8, 15
K = 20
USERS = 5000
"""Users the NDCG is measured on."""
OBJECTIVE = Objective(confidence=1.0, unobserved_weight=0.03, regularization=0.7, regularization_exponent=0.5)
OBSERVED = 1 + OBJECTIVE.confidence
CONFIDENCE = OBSERVED / OBJECTIVE.unobserved_weight + 1
# the best of a few on the held-out tenth of Gowalla; docs/benchmarks/speed.md has those that were tried for ours
REGULARIZATION = {"implicit": 100.0, "mllib": 3.0}


class World:
    """The log in two parts, on disk as each of the three wants it."""

    def __init__(self, events: Events, folder: Path):
        self.folder = folder
        shape = int(events.users.max()) + 1, int(events.items.max()) + 1
        held = _held_out(events, seed=7)
        self.train, self.valid = (_matrix(events, part, shape) for part in (~held, held))
        sp.save_npz(folder / "train.npz", self.train)
        kept = Events(*(getattr(events, name)[~held] for name in ("users", "items", "times")))
        write_folds(folder / "folds", [kept])
        users = np.flatnonzero(np.diff(self.valid.indptr))
        self.users = np.sort(np.random.default_rng(7).permutation(users)[:USERS])

    def histories(self) -> Histories:
        """Of the users the NDCG is measured on."""
        rows = self.train[self.users]
        times = np.zeros(rows.nnz, np.int64)
        return Histories(rows.indptr.astype(np.int64), rows.indices, times, rows.data, [None] * len(self.users))

    def ndcg(self, model: AlsModel, vectors: np.ndarray) -> float:
        """NDCG@K of the users' `vectors`, what they have seen left out."""
        banned = np.arange(model.n_items) == 0
        lists, _ = top_k(model, vectors, Exclusions(banned, self.histories()), K, 1024)
        rows = self.valid[self.users]
        hits = hit_matrix(lists[:, None], rows.indptr.astype(np.int64), rows.indices)
        return float(user_metrics(hits, np.diff(rows.indptr), K)["ndcg"].mean())

    def data_term(self, users: np.ndarray, items: np.ndarray) -> float:
        """The objective without its ridge."""
        rows = np.repeat(np.arange(self.train.shape[0]), np.diff(self.train.indptr))
        scores = np.einsum("tf,tf->t", users[rows], items[self.train.indices], dtype=np.float64)
        everything = np.sum((users.T.astype(float) @ users) * (items.T.astype(float) @ items))
        return float(OBSERVED * np.square(1 - scores).sum() + OBJECTIVE.unobserved_weight * everything)


class Ours:
    """One Spark session for all fits."""

    def __init__(self, world: World):
        self.world = world
        self.spark = make_session(
            app_name="als",
            master="local[2]",
            shuffle_partitions=4,
            options={"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"},
        )
        self._write()  # Python workers and Spark's own code are warm
        self.fit(16, 1)

    def _write(self) -> Pairs:
        folds = tables.read(self.spark, self.world.folder / "folds", "folds")
        folder = Path(tempfile.mkdtemp(dir=self.world.folder)) / "pairs"
        n_users, n_items = self.world.train.shape
        train = folds.where(folds[FOLD] == TRAIN)
        blocks = blocks_for(self.world.train.nnz, cores=2, most=Baselines().tasks)
        return write_pairs(train, folder, blocks=blocks, n_users=n_users, n_items=n_items)

    def fit(self, factors: int, iterations: int) -> tuple[dict[str, float], AlsModel, list[float]]:
        """Seconds of the pairs' blocks, which a night writes once for ALS and the cosine, and of all; the model; the objectives."""
        folder = self.world.folder / "als"
        shutil.rmtree(folder, ignore_errors=True)
        sizes = {"factors": factors, "iterations": iterations, "seed": 7}
        clock = time.perf_counter()
        pairs = self._write()
        written = time.perf_counter() - clock
        model, objectives = als.fit(self.spark.sparkContext, pairs, folder, objective=OBJECTIVE, **sizes)
        seconds = time.perf_counter() - clock
        shutil.rmtree(pairs.folder)
        return {"blocks": written, "all": seconds}, model, objectives

    def timing(self, factors: int, iterations: int = ITERATIONS) -> Timing:
        seconds, model, objectives = self.fit(factors, iterations)
        ndcg = self.world.ndcg(model, model.encode(self.world.histories()))
        facts = {"ndcg": ndcg, "objective": objectives[-1], "seconds_of_blocks": seconds["blocks"]}
        return Timing(seconds["all"], facts)


def theirs(
    world: World, name: str, factors: int, iterations: int = ITERATIONS, regularization: float | None = None
) -> Timing:
    """A peer's fit, and what its factors are worth."""
    regularization = regularization or REGULARIZATION[name]
    sizes = {"factors": factors, "iterations": iterations}
    settings = {**sizes, "regularization": regularization, "confidence": CONFIDENCE}
    flags = [text for key, value in settings.items() for text in (f"--{key}", value)]
    out = world.folder / f"{name}.npz"
    done = peer(f"{name}_als", world.folder / "train.npz", out, *flags)()
    with np.load(out) as arrays:
        users, items = arrays["users"], arrays["items"]
    model = AlsModel(len(items), {}, {"items": items})
    counts = [np.bincount(ids, minlength=n) for ids, n in zip(world.train.nonzero(), world.train.shape)]
    scale = counts if name == "mllib" else [np.ones(n) for n in world.train.shape]
    ridge = sum(float(s @ np.square(x, dtype=np.float64).sum(axis=1)) for s, x in zip(scale, (users, items)))
    objective = world.data_term(users, items) + OBJECTIVE.unobserved_weight * regularization * ridge
    return Timing(done.seconds, {"ndcg": world.ndcg(model, users[world.users]), "objective": objective})


def cases(world: World, ours: Ours, log: str, only: str | None) -> None:
    for factors in (64, 128):
        case = f"als {factors} factors"
        if only and only != case:
            continue
        config = {
            "log": log,
            "pairs": world.train.nnz,
            "iterations": ITERATIONS,
            "objective": vars(OBJECTIVE),
            "peers' confidence": CONFIDENCE,
            "peers' regularization": REGULARIZATION,
            "ours_seconds": "write_pairs and als.fit in local[2]: Spark jobs and files included, session not",
            "peer_seconds": "fit on data in memory",
        }
        measure(
            case,
            lambda factors=factors: ours.timing(factors),
            {name: lambda name=name, factors=factors: theirs(world, name, factors) for name in REGULARIZATION},
            config,
        )


def curves(world: World, ours: Ours, factors: int = 64, points: Sequence[int] = POINTS) -> None:
    """One fit for each point, from the start, after one that is not counted."""
    runs = {
        "ours": lambda n: ours.timing(factors, n),
        "implicit": lambda n: theirs(world, "implicit", factors, n),
        "mllib": lambda n: theirs(world, "mllib", factors, n),
    }
    found = {}
    for name, run in runs.items():
        found[name] = []
        run(points[0])
        for n in points:
            done = run(n)
            point = {"iterations": n, "seconds": done.seconds, **done.facts}
            print(f"  {name}: {point}", flush=True)
            found[name].append(point)
    (BENCH / "als-convergence.json").write_text(json.dumps({"factors": factors, "points": found}, indent=2))
    draw(found, factors, BENCH / "als-convergence.png")


def draw(found: dict[str, list[dict[str, Any]]], factors: int, path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    titles = {"objective": "Objective, each with its own ridge", "ndcg": f"Validation NDCG@{K}"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items()):
        for name, points in found.items():
            axes.plot([p["seconds"] for p in points], [p[key] for p in points], "o-", label=name)
        axes.set(title=title, xlabel="seconds of fit", xscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"ALS, {factors} factors; a mark after {', '.join(map(str, POINTS))} iterations")
    figure.savefig(path, dpi=130)


def _held_out(events: Events, seed: int) -> np.ndarray:
    """bool [T]: a tenth of each user's items, rounded; nothing of a user with fewer than five."""
    order = np.lexsort((np.random.default_rng(seed).random(len(events)), events.users))
    counts = np.bincount(events.users)
    place = np.arange(len(events)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.empty(len(events), bool)
    held[order] = place < np.round(counts / 10).astype(int)[events.users[order]]
    return held


def _matrix(events: Events, part: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    users, items = events.users[part], events.items[part]
    matrix = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    matrix.sort_indices()
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=Path("../shared/data/gowalla"))
    parser.add_argument("--only", help="als 64 factors, als 128 factors or convergence")
    arguments = parser.parse_args()
    BENCH.mkdir(parents=True, exist_ok=True)
    name, events = log_or_like(arguments.log)
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        world = World(events, Path(folder))
        ours = Ours(world)
        cases(world, ours, name, arguments.only)
        if arguments.only in (None, "convergence"):
            curves(world, ours)
        ours.spark.stop()


if __name__ == "__main__":
    main()
