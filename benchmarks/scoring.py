"""Compares top-N scoring with implicit and MLlib: the best 20 items of every user, without the items of the history.

    python benchmarks/scoring.py [--log ../shared/data/gowalla] [--only CASE]

Ours is `score_users` of the score stage with its default batch and tile, in local[2]. It reads the table `histories`,
folds every user in, scores, and writes the table `candidates` as Parquet. Each run has a new process and Spark session.
Ours and MLlib score 5,000 users four times before the clock starts, because Java compiles what it repeats, and a
night's session has worked for minutes before it scores. On a machine with a GPU, the case `gpu` measures the search of
one process, without Spark.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from harness import REPO, Timed, Timing, WorkerMemory, fresh, measure, peer, run_cases
from scoring_inputs import FACTORS, SEEN, from_log, generated

from recsys_spark.columns import ALS, ITEM_IDX, ITEM_KNN, PADDING_ITEM, RANK, USER_IDX
from recsys_spark.config.score import Score
from recsys_spark.fusion.blend import ZSCORE, Blend
from recsys_spark.fusion.fuse import Fusion
from recsys_spark.models import base
from recsys_spark.models.histories import Histories
from recsys_spark.registry import load
from recsys_spark.stages.score.lists import CandidateSearch, ListRequest, rank
from recsys_spark.topk import Exclusions, top_k

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

N = 20
WIDE, WIDE_SAMPLE = 200_000, 10_000
WARM_USERS, WARM_PASSES = 5000, 4
MANY_USERS = 4096
"""Batch of the peer on a GPU. Ours is measured with this batch and with its default."""
OURS_TIMED = "histories read from Parquet, users folded in and scored, Parquet written. Spark session started before"


def _compile(folder: Path, model: str) -> None:
    """Score a few users, so that numba's compiled code is in its cache. Peers are compiled too."""
    opened = {model: load(folder / model)}
    n_items = opened[model].n_items
    histories = Histories.of([[item] for item in range(1, min(n_items, 100))])
    for _ in rank(opened, histories, _search(n_items), _request(model)):
        pass


def _request(model: str) -> ListRequest:
    return ListRequest(Fusion((model,), Blend(ZSCORE, (1.0,))), N)


def _search(n_items: int) -> CandidateSearch:
    banned = np.zeros(n_items, bool)
    banned[PADDING_ITEM] = True
    return CandidateSearch(banned, N, Score().item_tile)


def score_once(folder: Path, model: str) -> dict[str, Any]:
    """Return the seconds of a pass over all users, in a new session that has scored a few users before."""
    from recsys_spark.spark.session import make_session
    from recsys_spark.stages.score.all_users import ScoringPlan, score_users

    session = make_session(
        app_name="bench",
        master="local[2]",
        shuffle_partitions=None,
        options={"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"},
    )
    session.range(1000).repartition(2).mapInArrow(lambda batches: batches, "id bigint").count()
    settings = Score()
    plan = ScoringPlan({model: folder / model}, settings.user_batch, settings.partitions)
    search = _search(base.read_header(folder / model)["n_items"])

    def score(histories: DataFrame) -> float:
        clock = time.perf_counter()
        lists = score_users(histories, plan, search, _request(model))
        lists.write.mode("overwrite").parquet(str(folder / f"top-{model}"))
        return time.perf_counter() - clock

    every = session.read.parquet(str(folder / "histories"))
    few = every.limit(WARM_USERS)
    cold = [score(few) for _ in range(WARM_PASSES)]
    with WorkerMemory() as memory:
        seconds = score(every)
    session.stop()
    return {"seconds": seconds, "warming_up_seconds": [round(s, 2) for s in cold], **memory.facts()}


def agreement(folder: Path, model: str, theirs: Path) -> float:
    """Return the share of places with the same item in our lists and in theirs (int [U, 20] from 0, by user)."""
    table = pq.read_table(folder / f"top-{model}", columns=[USER_IDX, RANK, ITEM_IDX])
    ids = np.load(theirs)
    users, ranks, items = (table[name].to_numpy() for name in (USER_IDX, RANK, ITEM_IDX))
    return float((ids[users, ranks - 1] == items - 1).mean())


def compared(folder: Path, model: str, script: str) -> Timing:
    """Run a peer, and compare its lists with ours."""
    out = folder / f"{script}.npy"
    timing = peer(script, folder, "--out", out)()
    return Timing(timing.seconds, {**timing.facts, "same_places": round(agreement(folder, model, out), 5)})


def sgemm_peak(processes: int = 2) -> float:
    """Return the peak of float32 matrix products in GFLOP/s: the better one of numpy (OpenBLAS) and torch (MKL).

    Each process multiplies matrices of 2,048 x 2,048 on one thread for three seconds. OpenBLAS reaches a quarter of MKL
    on a processor that it does not know.
    """
    code = """
import sys, time
if sys.argv[1] == "numpy":
    import numpy
    a, b, out = numpy.random.default_rng(0).random((3, 2048, 2048), numpy.float32)
    multiply = numpy.matmul
else:
    import torch
    torch.set_num_threads(1)
    a, b, out = torch.rand(3, 2048, 2048)
    multiply = torch.mm
multiply(a, b, out=out)
n, clock = 0, time.perf_counter()
while time.perf_counter() - clock < 3:
    multiply(a, b, out=out); n += 1
print(n * 2 * 2048 ** 3 / (time.perf_counter() - clock) / 1e9)
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def peak(library: str) -> float:
        command = [sys.executable, "-c", code, library]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(processes)]
        return sum(float(process.communicate()[0]) for process in started)

    return max(peak("numpy"), peak("torch"))


def of_peak(seconds: float, peak: float) -> dict[str, float]:
    """Return the rate of WIDE x WIDE inner products in `seconds`, and its share of `peak`, which is in GFLOP/s."""
    rate = 2.0 * WIDE * WIDE * FACTORS / seconds / 1e9
    return {
        "gflops": round(rate, 1),
        "sgemm_peak_gflops": round(peak, 1),
        "share_of_peak": round(rate / peak, 3),
    }


def top_n(log: Path) -> None:
    folder = from_log(log)
    peers = {
        "implicit recommend": partial(compared, folder, ALS, "implicit_topn"),
        "MLlib recommendForAllUsers": peer("mllib_topn", folder),
    }
    timed = {
        "ours": OURS_TIMED,
        "implicit recommend": "user vectors in memory, arrays returned",
        "MLlib recommendForAllUsers": "user vectors cached, histories not excluded, Parquet written",
    }
    config = {**_config(folder), "timed": timed}
    _compile(folder, ALS)
    measure(f"top-N {folder.name}", fresh(Path(__file__), "--once", folder, ALS), peers, config)


def top_n_wide() -> None:
    folder = generated(WIDE, WIDE)
    _compile(folder, ALS)

    def ours() -> Timing:
        peak = sgemm_peak()
        timing = fresh(Path(__file__), "--once", folder, ALS)()
        return Timing(timing.seconds, {**timing.facts, **of_peak(timing.seconds, peak)})

    def sample(script: str) -> Timing:
        timing = peer(script, folder, "--users", WIDE_SAMPLE)()
        return Timing(timing.seconds * WIDE / WIDE_SAMPLE, {**timing.facts, "sample_seconds": round(timing.seconds, 3)})

    peers = {
        name: partial(sample, script)
        for name, script in (
            ("implicit recommend", "implicit_topn"),
            ("MLlib recommendForAllUsers", "mllib_topn"),
        )
    }
    sampled = f"{WIDE_SAMPLE:,} users timed, seconds multiplied by {WIDE // WIDE_SAMPLE}. Otherwise as on the log"
    config = {
        **_config(folder),
        "history_length": SEEN,
        "timed": {"ours": OURS_TIMED, **dict.fromkeys(peers, sampled)},
    }
    measure(f"top-N {WIDE:,} x {WIDE:,}", ours, peers, config)


def top_n_gpu() -> None:
    """Compare the search on a GPU with torch.topk there. User vectors are in memory, lists are numpy arrays."""
    import torch

    if not torch.cuda.is_available():
        print("this machine has no GPU: nothing is measured")
        return
    folder = generated(WIDE, WIDE)
    model, users = load(folder / ALS), np.load(folder / "user_factors.npy")
    indptr, seen = np.load(folder / "indptr.npy"), np.load(folder / "indices.npy") + np.int32(1)
    pairs = Histories(indptr, seen, np.zeros(len(seen), np.int64), np.ones(len(seen), np.float32), [None] * WIDE)
    exclusions, vectors = Exclusions(_search(WIDE + 1).banned, pairs), model.arrays["items"]
    few = Score().user_batch

    def ours(device: str | None, n: int, step: int = few) -> np.ndarray:
        lists = []
        for lo in range(0, n, step):
            hi = min(lo + step, n)
            lists.append(top_k(model, users[lo:hi], exclusions.rows(lo, hi), N, Score().item_tile, device)[0])
        return np.concatenate(lists)

    def plain() -> np.ndarray:
        step, table, lists = MANY_USERS, torch.tensor(vectors, device="cuda"), []
        for lo in range(0, WIDE, step):
            hi = min(lo + step, WIDE)
            scores = torch.from_numpy(users[lo:hi]).cuda() @ table.T
            scores[:, PADDING_ITEM] = -torch.inf
            owners = np.repeat(np.arange(hi - lo), np.diff(indptr[lo : hi + 1]))
            history = torch.from_numpy(seen[indptr[lo] : indptr[hi]]).long().cuda()
            scores[torch.from_numpy(owners).cuda(), history] = -torch.inf
            lists.append(scores.topk(N, dim=1).indices.int().cpu().numpy())
        return np.concatenate(lists)

    on_cpu, on_gpu = ours(None, few), ours("cuda", WIDE)
    # float32 sums of another order may exchange near ties
    assert (on_gpu[:few] == on_cpu).mean() > 0.999
    assert (on_gpu == ours("cuda", WIDE, MANY_USERS)).mean() > 0.999
    plain()  # warms up
    peak = gpu_sgemm_peak()

    def timed(work: Callable[[], np.ndarray]) -> Timed:
        def run() -> Timing:
            clock = time.perf_counter()
            lists = work()
            seconds = time.perf_counter() - clock
            return Timing(seconds, {**of_peak(seconds, peak), "same_places": round(float((lists == on_gpu).mean()), 5)})

        return run

    def core() -> Timing:
        clock = time.perf_counter()
        ours(None, few)
        seconds = time.perf_counter() - clock
        return Timing(seconds * WIDE / few, {"sample_seconds": seconds})

    many = f"ours, {MANY_USERS:,} users at a time"
    described = {
        "ours": "user vectors in memory, histories excluded, ties by item id, lists as numpy arrays",
        "torch.topk of whole rows, same GPU": "the same, without an order of ties",
        many: "the same lists",
        "ours, one core": f"the same lists, {few:,} users timed",
    }
    peers = {
        "torch.topk of whole rows, same GPU": timed(plain),
        many: timed(partial(ours, "cuda", WIDE, MANY_USERS)),
        "ours, one core": core,
    }
    config = {**_config(folder), "history_length": SEEN, "timed": described, "master": "one process"}
    measure(f"GPU top-N {WIDE:,} x {WIDE:,}", timed(partial(ours, "cuda", WIDE)), peers, config)


def gpu_sgemm_peak() -> float:
    """Return the GFLOP/s of float32 products of 8,192 x 8,192 matrices: the median of ten, after ten that warm up."""
    import torch

    a, seconds = torch.randn(8192, 8192, device="cuda"), []
    for _ in range(20):
        torch.cuda.synchronize()
        clock = time.perf_counter()
        torch.mm(a, a)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - clock)
    return 2 * 8192**3 / float(np.median(seconds[10:])) / 1e9


def memory(users: int, items: int) -> None:
    folder = generated(users, items)
    _compile(folder, ALS)
    config = {**_config(folder), "history_length": SEEN, "timed": {"ours": OURS_TIMED}}
    case = f"top-N memory {users:,} x {items:,}"
    measure(case, fresh(Path(__file__), "--once", folder, ALS), {}, config)


def neighbours(log: Path) -> None:
    folder = from_log(log)
    peers = {"implicit CosineRecommender": partial(compared, folder, ITEM_KNN, "implicit_item_topn")}
    timed = {
        "ours": OURS_TIMED,
        "implicit CosineRecommender": "in memory, half of the users in each of two processes",
    }
    config = {**_config(folder), "neighbours": 1000, "timed": timed}
    _compile(folder, ITEM_KNN)
    case = f"neighbour-table top-N {folder.name}"
    measure(case, fresh(Path(__file__), "--once", folder, ITEM_KNN), peers, config)


def _config(folder: Path) -> dict[str, Any]:
    settings = Score().model_dump(include={"user_batch", "item_tile", "partitions"})
    users, items = (len(np.load(folder / f"{side}_factors.npy", mmap_mode="r")) for side in ("user", "item"))
    pairs = len(np.load(folder / "indices.npy", mmap_mode="r"))
    return {
        "users": users,
        "items": items,
        "pairs": pairs,
        "factors": FACTORS,
        "n": N,
        "master": "local[2]",
        **settings,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=REPO / "../shared/data/gowalla")
    parser.add_argument("--only", help="run the cases whose names begin with this")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(score_once(Path(arguments.once[0]), arguments.once[1])))
        return 0
    cases = {
        "top-N": partial(top_n, arguments.log),
        "neighbours": partial(neighbours, arguments.log),
        "wide": top_n_wide,
        "gpu": top_n_gpu,
    }
    for users, items in ((50_000, 50_000), (WIDE, 50_000), (50_000, WIDE)):
        cases[f"memory {users} {items}"] = partial(memory, users, items)
    return run_cases(cases, arguments.only)


if __name__ == "__main__":
    sys.exit(main())
