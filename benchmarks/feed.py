"""The feed: Petastorm with this project's windows of bytes, beside Petastorm's own loader on list columns.

    python benchmarks/feed.py [--rows 400000] [--epochs 10]

Both tables have the same generated rows in eight files of one row group. Item popularity follows a power law, and
every window is full, which compresses worse than a real log. Both feeds yield shuffled batches of 1,024 as torch
tensors, each in a process of its own. Seconds are those of the median epoch. Memory is measured after each epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.stages.features.shuffling import to_bytes

LENGTH, BATCH, ROW_GROUPS, ITEMS = 50, 1024, 8, 50_000
OURS, THEIRS = "bytes", "lists"


def write(folder: Path, rows: int, seed: int = 7) -> None:
    """Write folder/bytes like the features stage, and folder/lists like Petastorm's documentation."""
    rng = np.random.default_rng(seed)
    size = rows // ROW_GROUPS
    for name in (OURS, THEIRS):
        (folder / name).mkdir()
    for group in range(ROW_GROUPS):
        history = (ITEMS ** rng.random((size, LENGTH))).astype(np.int32)
        recency = np.sort(rng.integers(1, 24, (size, LENGTH), dtype=np.int32))[:, ::-1]
        target = history[rng.permutation(size), -1]
        file = f"part-{group}.parquet"
        columns = {
            "item_idx": target,
            "history": to_bytes(history),
            "recency": to_bytes(recency.astype(np.uint8)),
        }
        # Spark calls this codec lz4_raw
        pq.write_table(pa.table(columns), folder / OURS / file, compression="lz4", use_dictionary=False)
        columns = {"item_idx": target, "history": lists(history), "recency": lists(recency)}
        pq.write_table(pa.table(columns), folder / THEIRS / file)


def lists(matrix: np.ndarray) -> pa.ListArray:
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(matrix).ravel())


def our_epoch(folder: Path, rows: int, epoch: int) -> Iterator[Any]:
    from recsys_spark.stages.train.feed import batches

    yield from batches(folder / OURS, rank=0, size=1, batch=BATCH, steps=rows // BATCH, seed=7, epoch=epoch)


def their_epoch(folder: Path, rows: int, epoch: int) -> Iterator[Any]:
    warnings.simplefilter("ignore")
    from petastorm import make_batch_reader
    from petastorm.pytorch import BatchedDataLoader

    reader = make_batch_reader((folder / THEIRS).as_uri(), reader_pool_type="thread", workers_count=2, seed=epoch)
    with BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=rows // ROW_GROUPS) as loader:
        yield from loader


def read(which: str, folder: Path, rows: int, epochs: int) -> dict[str, Any]:
    """Read the table `epochs` times. Return the seconds of the median epoch and the memory after each epoch."""
    seconds, memory = [], []
    for epoch in range(1, epochs + 1):
        clock = time.perf_counter()
        batches = (our_epoch if which == OURS else their_epoch)(folder, rows, epoch)
        seen = sum(len(batch["item_idx"]) for batch in batches)
        seconds.append(time.perf_counter() - clock)
        if seen < rows - BATCH:
            raise SystemExit(f"{which}: only {seen} of {rows} rows were read")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(round(pages * 4096 / 2**20))
    middle = statistics.median(seconds)
    return {"seconds": middle, "rows_per_s": round(rows / middle), "rss_mib_by_epoch": memory}


def timed(which: str, folder: Path, rows: int, epochs: int) -> harness.Timed:
    def run() -> harness.Timing:
        command = [sys.executable, __file__, "--read", which, str(folder), str(rows), str(epochs)]
        facts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        return harness.Timing(facts.pop("seconds"), facts)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        which, folder, rows, epochs = arguments.read
        print(json.dumps(read(which, Path(folder), int(rows), int(epochs))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.rows)
        ours, theirs = (timed(w, Path(folder), arguments.rows, arguments.epochs) for w in (OURS, THEIRS))
        config = {
            "rows": arguments.rows,
            "length": LENGTH,
            "batch": BATCH,
            "row_groups": ROW_GROUPS,
            "epochs": arguments.epochs,
        }
        harness.measure("feed, windows of 50", ours, {"Petastorm's lists and BatchedDataLoader": theirs}, config)


if __name__ == "__main__":
    main()
