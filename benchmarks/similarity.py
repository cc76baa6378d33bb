"""Compares our item similarity with scipy and RePlay, and measures it alone on generated logs and on an uneven log.

    python benchmarks/similarity.py [--log ../shared/data/gowalla] [--only CASE]

Ours does the work of the baselines stage in local[2]: it reads the table `folds` (Parquet), writes the pairs, compares
the items and leaves the table of neighbours in files. Each run has a new process and session. A fit on a few pairs
before the clock starts Spark's Python workers. numba's compiled code is in its cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import BENCH, REPLAY_PYTHON, Timed, WorkerMemory, fresh, measure, peer, run_cases
from logs import Events, Shape, log_or_like, write_folds

from recsys_spark.columns import FOLD, TRAIN
from recsys_spark.config.baselines import Baselines

FOLDER = BENCH / "similarity"
TIMED = "folds read from Parquet, pairs written, items compared, table of neighbours joined. Spark and its workers run"
SHAPES = {
    "10 M events": Shape(250_000, 100_000, 10_000_000),
    "50 M events": Shape(1_000_000, 200_000, 50_000_000),
}
HEAVY = Shape(50_000, 120_000, 2_000_000)
HEAVY_ITEMS = 100_000


def put_folds(name: str, pieces: Iterable[Events]) -> Path:
    """Write the table `folds` of a log, unless it exists."""
    folder = FOLDER / name.replace(" ", "-")
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        sizes, squares = np.zeros(2, np.int64), 0

        def measured() -> Iterable[Events]:
            nonlocal squares
            for piece in pieces:
                sizes[:] = np.maximum(sizes, [piece.users.max() + 1, piece.items.max() + 1])
                squares += int(np.square(np.unique(piece.users, return_counts=True)[1]).sum())
                yield piece

        pairs = write_folds(folder / "folds", measured())
        facts = {"n_users": int(sizes[0]), "n_items": int(sizes[1]), "pairs": pairs, "squares": squares}
        (folder / "ready").write_text(json.dumps(facts))
    return folder


def put_log(log: Path) -> Path:
    """Write the table `folds` of a log, and its pairs as CSR by user for the peers."""
    name, pairs = log_or_like(log)
    folder = put_folds(name, [pairs])
    np.save(folder / "indptr.npy", np.searchsorted(pairs.users, np.arange(int(pairs.users.max()) + 2)))
    np.save(folder / "indices.npy", pairs.items - np.int32(1))
    return folder


def heavy() -> Iterable[Events]:
    """Yield HEAVY, but user 0 has the items 1 … HEAVY_ITEMS, and half of the other users have item 1."""
    for piece in HEAVY.pairs_by_user():
        users, items = piece.users, piece.items
        keep = (users > 0) & ~((items == 1) & (users % 2 == 0))
        half = np.unique(users[(users > 0) & (users % 2 == 0)])
        first = np.arange(1, HEAVY_ITEMS + 1) if (users == 0).any() else np.empty(0, np.int64)
        users = np.concatenate([np.zeros(len(first), np.int64), users[keep], half])
        items = np.concatenate([first, items[keep], np.ones(len(half))]).astype(np.int32)
        yield Events(users, items, np.zeros(len(users), np.int64))


def fit_once(folder: Path) -> dict[str, Any]:
    """Return the seconds of one fit in a new session and of its steps, of a second fit in the session, and memory."""
    from recsys_spark.spark.session import make_session

    sizes = json.loads((folder / "ready").read_text())
    pairs, squares = sizes.pop("pairs"), sizes.pop("squares")
    options = {
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    spark = make_session(app_name="similarity", master="local[2]", shuffle_partitions=None, options=options)
    folds = spark.read.parquet(str(folder / "folds")).where(f"{FOLD} = '{TRAIN}'")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fit(folds.limit(1000).localCheckpoint(), Path(scratch) / "small", parts_of(0), sizes)
        with WorkerMemory() as memory:
            first = fit(folds, Path(scratch) / "first", parts_of(pairs), sizes)
        shutil.rmtree(Path(scratch) / "first")
        again = fit(folds, Path(scratch) / "again", parts_of(pairs), sizes) if pairs < 5_000_000 else None
    spark.stop()
    facts = {name: round(seconds, 3) for name, seconds in first.items() if name != "neighbours"}
    return {
        "seconds": first["pairs"] + first["comparison"],
        **facts,
        "second_fit": round(again["pairs"] + again["comparison"], 3) if again else None,
        "users": sizes["n_users"],
        "items": sizes["n_items"],
        "pairs": pairs,
        "squares": squares,
        "neighbours": int(first["neighbours"]),
        "driver_peak_rss_mib": _peak_rss(),
        **memory.facts(),
    }


def fit(folds: Any, folder: Path, parts: int, sizes: dict[str, int]) -> dict[str, float]:
    """Fit as the stage does. Returns the seconds of the pairs and of the comparison, and the number of neighbours."""
    from recsys_spark.stages.baselines import item_knn
    from recsys_spark.stages.baselines.pairs import write_pairs

    options = Baselines().item_knn.model_dump()
    neighbours = options.pop("neighbours")
    similarity = item_knn.ItemSimilarity(**options)
    clock = time.perf_counter()
    pairs = write_pairs(folds, folder / "pairs", parts=parts, **sizes)
    middle = time.perf_counter()
    spark = folds.sparkSession.sparkContext
    model = item_knn.fit_pairs(spark, pairs, folder / "table", neighbours=neighbours, similarity=similarity)
    seconds = {"pairs": middle - clock, "comparison": time.perf_counter() - middle}
    return {**seconds, "neighbours": float(len(model.arrays["neighbours"]))}


def parts_of(pairs: int) -> int:
    """Return the number of parts that the stage writes."""
    from recsys_spark.stages.baselines.pairs import parts_for

    return parts_for(pairs, cores=2, maximum=Baselines().tasks)


def _peak_rss() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def ours(folder: Path) -> Timed:
    return fresh(Path(__file__), "--once", folder)


def config(folder: Path) -> dict[str, Any]:
    options = Baselines().item_knn.model_dump()
    parts = parts_of(json.loads((folder / "ready").read_text())["pairs"])
    return {"log": folder.name, "master": "local[2]", "parts": parts, "timed": TIMED, "options": options}


def beside_peers(log: Path) -> None:
    folder = put_log(log)
    peers = {
        "scipy": peer("scipy_similarity", folder),
        "replay ItemKNN": peer("replay_itemknn", folder, python=REPLAY_PYTHON),
    }
    notes = {
        "scipy": "the same formula in one process, on a CSR matrix in memory",
        "replay ItemKNN": "plain cosine in local[2], on cached pairs",
    }
    measure("item similarity", ours(folder), peers, config(folder) | {"peers": notes})


def alone(name: str, pieces: Iterable[Events]) -> None:
    folder = put_folds(name, pieces)
    measure(f"item similarity, {name}", ours(folder), {}, config(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=Path("../shared/data/gowalla"))
    parser.add_argument("--only", help="the cases whose name begins with this")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(fit_once(arguments.once)))
        return 0
    cases = {
        "peers": partial(beside_peers, arguments.log),
        "heavy": partial(alone, "heavy", heavy()),
    }
    for name, shape in SHAPES.items():
        cases[name] = partial(alone, name, shape.pairs_by_user())
    return run_cases(cases, arguments.only)


if __name__ == "__main__":
    raise SystemExit(main())
