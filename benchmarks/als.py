"""Compares our ALS with implicit (C++) and Spark MLlib: 15 iterations with 64 and 128 factors, and the convergence.

    python benchmarks/als.py [--log ../shared/data/gowalla] [--only CASE]

Writes results.json, als-convergence.json and als-convergence.png. A tenth of each user's items, chosen by seed, is held
out. Ours is `write_pairs` and `als.fit_pairs` in local[2], as the baselines stage calls them. Its time includes the
table of pairs, the Spark jobs, their files and the model. The time of the pairs is also given apart, because a night
writes them once for all models. The peers' time is that of their `fit` on data in memory.

All three minimise our objective, each with its own ridge: sum over observed (u, i) of c (1 - x.y)^2 + v * sum over all
(x.y)^2. implicit and MLlib minimise it divided by v, with the target 1 + v / c instead of 1 for observed pairs. So
their confidence is c / v + 1. MLlib multiplies its ridge by the number of pairs of a row, ours by the square root of
that number, and implicit has one ridge for all rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
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
from recsys_spark.models.als import AlsModel, Objective
from recsys_spark.models.histories import Histories
from recsys_spark.spark.session import make_session
from recsys_spark.stages.baselines import als
from recsys_spark.stages.baselines.pairs import Pairs, parts_for, write_pairs
from recsys_spark.storage import tables
from recsys_spark.topk import Exclusions, top_k

ITERATIONS = 15
POINTS = 1, 2, 3, 5, 8, 15
K = 20
USERS = 5000
"""Number of users that the NDCG is measured on."""
OBJECTIVE = Objective(confidence=1.0, unobserved_weight=0.03, regularization=0.7, regularization_exponent=0.5)
OBSERVED = 1 + OBJECTIVE.confidence
CONFIDENCE = OBSERVED / OBJECTIVE.unobserved_weight + 1
# the best of a few on the held-out tenth of Gowalla
REGULARIZATION = {"implicit": 100.0, "mllib": 3.0}


class Data:
    """The two parts of the log, on disk in the form that each of the three reads."""

    def __init__(self, events: Events, folder: Path):
        self.folder = folder
        shape = int(events.users.max()) + 1, int(events.items.max()) + 1
        held_out = _held_out(events, seed=7)
        self.train, self.valid = (_matrix(events, part, shape) for part in (~held_out, held_out))
        sp.save_npz(folder / "train.npz", self.train)
        train = Events(*(getattr(events, name)[~held_out] for name in ("users", "items", "times")))
        write_folds(folder / "folds", [train])
        users = np.flatnonzero(np.diff(self.valid.indptr))
        self.users = np.sort(np.random.default_rng(7).permutation(users)[:USERS])

    def histories(self) -> Histories:
        """Return the histories of the users that the NDCG is measured on."""
        rows = self.train[self.users]
        times = np.zeros(rows.nnz, np.int64)
        return Histories(rows.indptr.astype(np.int64), rows.indices, times, rows.data, [None] * len(self.users))

    def ndcg(self, model: AlsModel, vectors: np.ndarray) -> float:
        """Return the NDCG@K of the users' `vectors`. Lists leave out the histories."""
        exclusions = Exclusions(np.arange(model.n_items) == 0, self.histories())
        lists, _ = top_k(model, vectors, exclusions, K, 1024)
        rows = self.valid[self.users]
        hits = hit_matrix(lists[:, None], rows.indptr.astype(np.int64), rows.indices)
        return float(user_metrics(hits, np.diff(rows.indptr), K)["ndcg"].mean())

    def data_term(self, users: np.ndarray, items: np.ndarray) -> float:
        """Return the objective without its ridge."""
        rows = np.repeat(np.arange(self.train.shape[0]), np.diff(self.train.indptr))
        scores = np.einsum("tf,tf->t", users[rows], items[self.train.indices], dtype=np.float64)
        everything = np.sum((users.T.astype(float) @ users) * (items.T.astype(float) @ items))
        return float(OBSERVED * np.square(1 - scores).sum() + OBJECTIVE.unobserved_weight * everything)


class Ours:
    """Our fits, in one Spark session."""

    def __init__(self, data: Data):
        self.data = data
        self.spark = make_session(
            app_name="als",
            master="local[2]",
            shuffle_partitions=4,
            options={"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"},
        )
        self._write()  # warms up Spark and its Python workers
        self.fit(16, 1)

    def _write(self) -> Pairs:
        folds = tables.read(self.spark, self.data.folder / "folds", "folds")
        folder = Path(tempfile.mkdtemp(dir=self.data.folder)) / "pairs"
        n_users, n_items = self.data.train.shape
        train = folds.where(folds[FOLD] == TRAIN)
        parts = parts_for(self.data.train.nnz, cores=2, maximum=Baselines().tasks)
        return write_pairs(train, folder, parts=parts, n_users=n_users, n_items=n_items)

    def fit(self, factors: int, iterations: int) -> tuple[dict[str, float], AlsModel, list[float]]:
        """Return the seconds of the pairs and of all, the model, and the objective after each iteration."""
        folder = self.data.folder / "als"
        shutil.rmtree(folder, ignore_errors=True)
        sizes = {"factors": factors, "iterations": iterations, "seed": 7}
        clock = time.perf_counter()
        pairs = self._write()
        written = time.perf_counter() - clock
        model, objectives = als.fit_pairs(self.spark.sparkContext, pairs, folder, objective=OBJECTIVE, **sizes)
        seconds = time.perf_counter() - clock
        shutil.rmtree(pairs.folder)
        return {"pairs": written, "all": seconds}, model, objectives

    def timing(self, factors: int, iterations: int = ITERATIONS) -> Timing:
        seconds, model, objectives = self.fit(factors, iterations)
        ndcg = self.data.ndcg(model, model.encode(self.data.histories()))
        facts = {"ndcg": ndcg, "objective": objectives[-1], "seconds_of_pairs": seconds["pairs"]}
        return Timing(seconds["all"], facts)


def peer_timing(
    data: Data, name: str, factors: int, iterations: int = ITERATIONS, regularization: float | None = None
) -> Timing:
    """Fit a peer, and measure its vectors as ours."""
    regularization = regularization or REGULARIZATION[name]
    sizes = {"factors": factors, "iterations": iterations}
    settings = {**sizes, "regularization": regularization, "confidence": CONFIDENCE}
    flags = [text for key, value in settings.items() for text in (f"--{key}", value)]
    out = data.folder / f"{name}.npz"
    timing = peer(f"{name}_als", data.folder / "train.npz", out, *flags)()
    with np.load(out) as arrays:
        users, items = arrays["users"], arrays["items"]
    model = AlsModel(len(items), {}, {"items": items})
    counts = [np.bincount(ids, minlength=n) for ids, n in zip(data.train.nonzero(), data.train.shape, strict=True)]
    scale = counts if name == "mllib" else [np.ones(n) for n in data.train.shape]
    squares = [np.square(vectors, dtype=np.float64).sum(axis=1) for vectors in (users, items)]
    ridge = sum(float(s @ square) for s, square in zip(scale, squares, strict=True))
    objective = data.data_term(users, items) + OBJECTIVE.unobserved_weight * regularization * ridge
    return Timing(timing.seconds, {"ndcg": data.ndcg(model, users[data.users]), "objective": objective})


def cases(data: Data, ours: Ours, log: str, only: str | None) -> None:
    for factors in (64, 128):
        case = f"als {factors} factors"
        if only and only != case:
            continue
        config = {
            "log": log,
            "pairs": data.train.nnz,
            "iterations": ITERATIONS,
            "objective": vars(OBJECTIVE),
            "peers' confidence": CONFIDENCE,
            "peers' regularization": REGULARIZATION,
            "ours_seconds": "write_pairs and als.fit_pairs in local[2], with Spark jobs and files, without the session",
            "peer_seconds": "fit on data in memory",
        }
        peers = {name: partial(peer_timing, data, name, factors) for name in REGULARIZATION}
        measure(case, partial(ours.timing, factors), peers, config)


def curves(data: Data, ours: Ours, factors: int = 64, points: Sequence[int] = POINTS) -> None:
    """Measure a new fit for each point, after one that does not count."""
    runs = {
        "ours": partial(ours.timing, factors),
        "implicit": partial(peer_timing, data, "implicit", factors),
        "mllib": partial(peer_timing, data, "mllib", factors),
    }
    measured: dict[str, list[dict[str, Any]]] = {}
    for name, run in runs.items():
        measured[name] = []
        run(points[0])
        for n in points:
            timing = run(n)
            point = {"iterations": n, "seconds": timing.seconds, **timing.facts}
            print(f"  {name}: {point}", flush=True)
            measured[name].append(point)
    (BENCH / "als-convergence.json").write_text(json.dumps({"factors": factors, "points": measured}, indent=2))
    draw(measured, factors, BENCH / "als-convergence.png")


def draw(measured: dict[str, list[dict[str, Any]]], factors: int, path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    titles = {"objective": "Objective, each with its own ridge", "ndcg": f"NDCG@{K} on the validation set"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for name, points in measured.items():
            axes.plot([p["seconds"] for p in points], [p[key] for p in points], "o-", label=name)
        axes.set(title=title, xlabel="seconds of fit", xscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"ALS, {factors} factors, after {', '.join(map(str, POINTS))} iterations")
    figure.savefig(path, dpi=130)


def _held_out(events: Events, seed: int) -> np.ndarray:
    """Return bool [T]: a tenth of each user's items, rounded. Users with fewer than five items have none."""
    order = np.lexsort((np.random.default_rng(seed).random(len(events)), events.users))
    counts = np.bincount(events.users)
    place = np.arange(len(events)) - np.repeat(np.cumsum(counts) - counts, counts)
    held_out = np.empty(len(events), bool)
    held_out[order] = place < np.round(counts / 10).astype(int)[events.users[order]]
    return held_out


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
        data = Data(events, Path(folder))
        ours = Ours(data)
        cases(data, ours, name, arguments.only)
        if arguments.only in (None, "convergence"):
            curves(data, ours)
        ours.spark.stop()


if __name__ == "__main__":
    main()
