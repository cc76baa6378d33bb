"""Top 20 of every user, seen items left out: ours beside implicit and MLlib; the share of the sgemm peak; memory of a task.

    python benchmarks/scoring.py [--log ../shared/data/gowalla] [--only CASE]

Ours is the score stage's own shell (`score_users`) with its default batch and tile, in local[2]: it reads the table `histories`, folds every user in,
scores, and writes the table `candidates` as Parquet. Each run has a process and a Spark session of its own, started and at work before the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from harness import BENCH, PEERS_PYTHON, REPO, Timing, WorkerMemory, fresh, measure, peer, run_cases
from logs import Events, log_or_like, write_histories

from recsys_spark.columns import ALS, ITEM_COSINE, ITEM_IDX, RANK, USER_IDX
from recsys_spark.config.sections import Score
from recsys_spark.item_models import base
from recsys_spark.item_models.dense import FactorModel, gram_of
from recsys_spark.item_models.histories import Histories
from recsys_spark.item_models.neighbours import NeighbourModel

N, FACTORS = 20, 64
OBJECTIVE = {
    "confidence": 1.0,
    "unobserved_weight": 1.0,
    "regularization": 1.0,
    "regularization_exponent": 0.0,
}
"""With these the fold-in solves what implicit solves at alpha 3, up to a factor that is the same for all items."""
WIDE, WIDE_SEEN, WIDE_SAMPLE = 200_000, 50, 10_000
FOLDER = BENCH / "scoring"
OURS_TIMED = (
    "Parquet histories read, users folded in, scored, seen out, Parquet written; Spark session started before"
)


def from_log(log: Path) -> Path:
    """Histories, item models and the peers' arrays of a log, made once."""
    name, pairs = log_or_like(log)
    folder = FOLDER / name
    if (folder / "ready").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_histories(folder / "histories", [pairs])
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
    base.save(folder / ITEM_COSINE, NeighbourModel(n_items + 1, {}, _by_candidate(parts)))
    (folder / "ready").touch()
    return folder


def generated(users: int, items: int) -> Path:
    """The same of random factors, WIDE_SEEN random items in each history."""
    folder = FOLDER / f"{users}x{items}"
    if (folder / "ready").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    write_histories(folder / "histories", _random_histories(users, items))
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((items, FACTORS)) / 8).astype(np.float32)
    np.save(folder / "item_factors.npy", vectors)
    np.save(folder / "user_factors.npy", rng.standard_normal((users, FACTORS)).astype(np.float32))
    seen = np.concatenate([piece.items for piece in _random_histories(users, items)])
    np.save(folder / "indptr.npy", np.arange(users + 1, dtype=np.int64) * WIDE_SEEN)
    np.save(folder / "indices.npy", seen - np.int32(1))
    _save_factors(folder, vectors)
    (folder / "ready").touch()
    return folder


def _random_histories(users: int, items: int) -> Iterator[Events]:
    for first in range(0, users, 50_000):
        rng = np.random.default_rng([2, first])
        rows = min(50_000, users - first)
        chosen = np.sort(rng.integers(1, items + 1, (rows, WIDE_SEEN), dtype=np.int32))
        while len(again := np.flatnonzero((np.diff(chosen) == 0).any(axis=1))):
            chosen[again] = np.sort(rng.integers(1, items + 1, (len(again), WIDE_SEEN), dtype=np.int32))
        flat = chosen.ravel()
        yield Events(
            np.repeat(np.arange(first, first + rows), WIDE_SEEN), flat, np.zeros(len(flat), np.int64)
        )


def _save_factors(folder: Path, vectors: np.ndarray, histories: Histories | None = None) -> None:
    """The item model of `vectors`; with `histories` also their users' vectors, for the peers."""
    padded = np.vstack([np.zeros((1, FACTORS), np.float32), vectors])
    arrays = {"items": padded, "gram": gram_of(padded).astype(np.float32)}
    model = FactorModel(len(padded), {**OBJECTIVE, "fitted_items": len(vectors)}, arrays)
    base.save(folder / ALS, model)
    if histories:
        np.save(folder / "user_factors.npy", np.vstack([model.encode(b) for b in histories.batches(4096)]))


def _by_candidate(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A neighbour table with each row ascending by candidate, as ours is kept."""
    rows = np.repeat(np.arange(len(parts["indptr"]) - 1), np.diff(parts["indptr"]))
    order = np.lexsort((parts["neighbours"], rows))
    return {name: array if name == "indptr" else array[order] for name, array in parts.items()}


def score_once(folder: Path, model: str) -> dict[str, Any]:
    """Seconds of one pass over all users in a session of its own, and of a second pass in the same session."""
    from recsys_spark.score.all_users import Crew, score_users
    from recsys_spark.score.fusion import Blend
    from recsys_spark.score.lists import Search, Wanted
    from recsys_spark.tables.session import make_session

    session = make_session(
        app_name="bench",
        master="local[2]",
        shuffle_partitions=None,
        options={"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"},
    )
    session.range(1000).repartition(2).mapInArrow(lambda batches: batches, "id bigint").count()
    settings = Score()
    crew = Crew({model: folder / model}, settings.user_batch, settings.partitions)
    n_items = base.read_header(folder / model)["n_items"]
    banned = np.zeros(n_items, bool)
    banned[0] = True
    search = Search(banned, N, settings.item_tile)
    seconds = []
    with WorkerMemory() as memory:
        for _ in range(2):
            clock = time.perf_counter()
            histories = session.read.parquet(str(folder / "histories"))
            lists = score_users(histories, crew, search, Wanted(Blend("zscore", (1.0,)), N))
            lists.write.mode("overwrite").parquet(str(folder / f"top-{model}"))
            seconds.append(time.perf_counter() - clock)
    session.stop()
    return {"seconds": seconds[0], "again_seconds": round(seconds[1], 3), **memory.facts()}


def agreement(folder: Path, model: str, theirs: Path) -> float:
    """Share of the places of all lists in which ours and theirs (int [U, 20] from 0, by user) have the same item."""
    table = pq.read_table(folder / f"top-{model}", columns=[USER_IDX, RANK, ITEM_IDX])
    ids = np.load(theirs)
    users, ranks, items = (table[name].to_numpy() for name in (USER_IDX, RANK, ITEM_IDX))
    return float((ids[users, ranks - 1] == items - 1).mean())


def compared(folder: Path, model: str, script: str) -> Timing:
    """Implicit, and how many places of its lists are ours."""
    out = folder / f"{script}.npy"
    timing = peer(script, folder, "--out", out)()
    return Timing(timing.seconds, {**timing.facts, "same_places": round(agreement(folder, model, out), 5)})


def sgemm_peak(processes: int = 2) -> float:
    """GFLOP/s of as many processes at a time, each multiplying 2,048-square float32 matrices on one thread for three seconds."""
    code = """
import time, numpy as np
a, b = np.random.default_rng(0).random((2, 2048, 2048), np.float32)
out, n = a @ b, 0
clock = time.perf_counter()
while time.perf_counter() - clock < 3:
    np.matmul(a, b, out=out); n += 1
print(n * 2 * 2048 ** 3 / (time.perf_counter() - clock) / 1e9)
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in started)


def top_n(log: Path) -> None:
    folder = from_log(log)
    peers = {
        "implicit recommend": partial(compared, folder, ALS, "implicit_topn"),
        "MLlib recommendForAllUsers": peer("mllib_topn", folder),
    }
    timed = {
        "ours": OURS_TIMED,
        "implicit recommend": "users' vectors at hand, in memory, arrays returned",
        "MLlib recommendForAllUsers": "users' vectors at hand, cached; seen items left in; Parquet written",
    }
    config = {**_config(folder), "timed": timed}
    measure(f"top-N {folder.name}", fresh(Path(__file__), "--once", folder, ALS), peers, config)


def top_n_wide() -> None:
    folder = generated(WIDE, WIDE)
    flops = 2.0 * WIDE * WIDE * FACTORS

    def ours() -> Timing:
        peak = sgemm_peak()
        timing = fresh(Path(__file__), "--once", folder, ALS)()
        rate = flops / timing.seconds / 1e9
        facts = {
            "gflops": round(rate, 1),
            "sgemm_peak_gflops": round(peak, 1),
            "share_of_peak": round(rate / peak, 3),
        }
        return Timing(timing.seconds, {**timing.facts, **facts})

    def sample(script: str) -> Timing:
        timing = peer(script, folder, "--users", WIDE_SAMPLE)()
        return Timing(
            timing.seconds * WIDE / WIDE_SAMPLE, {**timing.facts, "sample_seconds": round(timing.seconds, 3)}
        )

    peers = {
        name: partial(sample, script)
        for name, script in (
            ("implicit recommend", "implicit_topn"),
            ("MLlib recommendForAllUsers", "mllib_topn"),
        )
    }
    told = (
        f"{WIDE_SAMPLE:,} users timed, seconds multiplied by {WIDE // WIDE_SAMPLE}; otherwise as on the log"
    )
    config = {
        **_config(folder),
        "seen_by_each": WIDE_SEEN,
        "timed": {"ours": OURS_TIMED, **dict.fromkeys(peers, told)},
    }
    measure(f"top-N {WIDE:,} x {WIDE:,}", ours, peers, config)


def memory(users: int, items: int) -> None:
    folder = generated(users, items)
    config = {**_config(folder), "seen_by_each": WIDE_SEEN, "timed": {"ours": OURS_TIMED}}
    case = f"top-N memory {users:,} x {items:,}"
    measure(case, fresh(Path(__file__), "--once", folder, ALS), {}, config, runs=1)


def neighbours(log: Path) -> None:
    folder = from_log(log)
    peers = {"implicit CosineRecommender": partial(compared, folder, ITEM_COSINE, "implicit_item_topn")}
    timed = {
        "ours": OURS_TIMED,
        "implicit CosineRecommender": "in memory, half of the users in each of two processes",
    }
    config = {**_config(folder), "neighbours": 1000, "timed": timed}
    case = f"neighbour-table top-N {folder.name}"
    measure(case, fresh(Path(__file__), "--once", folder, ITEM_COSINE), peers, config)


def _config(folder: Path) -> dict[str, Any]:
    settings = Score().model_dump(include={"user_batch", "item_tile", "partitions"})
    users, items = (len(np.load(folder / f"{side}_factors.npy", mmap_mode="r")) for side in ("user", "item"))
    return {"users": users, "items": items, "factors": FACTORS, "n": N, "master": "local[2]", **settings}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=REPO / "../shared/data/gowalla")
    parser.add_argument("--only", help="the case whose name begins so")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(score_once(Path(arguments.once[0]), arguments.once[1])))
        return 0
    cases = {
        "top-N": partial(top_n, arguments.log),
        "neighbours": partial(neighbours, arguments.log),
        "wide": top_n_wide,
    }
    for users, items in ((50_000, 50_000), (WIDE, 50_000), (50_000, WIDE)):
        cases[f"memory {users} {items}"] = partial(memory, users, items)
    return run_cases(cases, arguments.only)


if __name__ == "__main__":
    sys.exit(main())
