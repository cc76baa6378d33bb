"""Examples per second of the training loop: in memory, through Petastorm, and with Horovod on one and two ranks, one after the other.

    python benchmarks/training.py build/demo [--epochs 4] [--out build/bench/training.json]

Reads the release features of the newest run under the root (any night will do). Every case runs the same loop, network, batch size and one
thread of arithmetic a rank; only what brings the batches and joins the gradients differs. The first epoch of a case warms up and is left out;
the figure is the median of the others. Two ranks are given the same number of examples in all, half each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from recsys_spark.train import task, workers
from recsys_spark.train.feed import COLUMNS, batch_plan
from recsys_spark.train.loop import Communicator

CASES = ("in memory", "petastorm", "petastorm + horovod, 1 rank", "petastorm + horovod, 2 ranks")


def newest_run(root: Path) -> Path:
    """The newest run under `root` whose release features are finished."""
    done = sorted(root.glob("runs/*/release/features/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not done:
        raise SystemExit(f"no run under {root} has release features; run `make demo` first")
    return done[-1].parents[2]


def make_job(run: Path, epochs: int, output: Path) -> task.Job:
    """The job of the run's release training, for `epochs` epochs, without validation."""
    train = json.loads((run / "release" / "train" / "manifest.json").read_text())["settings"]
    features = json.loads((run / "release" / "features" / "manifest.json").read_text())
    clean = json.loads((run / "clean" / "manifest.json").read_text())
    return task.Job(
        features=str((run / "release" / "features").resolve()),
        output=str(output),
        checkpoints=str(output / "checkpoints"),
        examples=features["counts"]["examples"],
        n_items=clean["counts"]["n_items"],
        n_features=features["counts"]["features"],
        history_length=features["settings"]["history_length"],
        epochs=epochs,
        validate=False,
        settings=train,
    )


def in_memory(job: task.Job) -> None:
    """The same worker with the examples in tensors: no Petastorm, no Horovod. Runs in a process of its own, like the others."""
    table = pq.read_table(Path(job.features) / "examples", columns=list(COLUMNS)).combine_chunks()
    rows = {}
    for name in COLUMNS:
        column = table.column(name).chunk(0)
        values = (
            np.asarray(column.flatten()).reshape(len(column), -1)
            if name != "item_idx"
            else np.asarray(column)
        )
        rows[name] = torch.from_numpy(np.array(values))

    def batches(
        folder: Path, *, batch: int, steps: int, seed: int, epoch: int, **_: Any
    ) -> Iterator[dict[str, torch.Tensor]]:
        order = torch.randperm(job.examples, generator=torch.Generator().manual_seed(seed + epoch))
        for step in range(steps):
            at = order[step * batch : (step + 1) * batch]
            yield {name: values[at] for name, values in rows.items()}

    task.feed.batches = batches
    task.run_worker(job, Communicator())


def measure(case: str, job: task.Job) -> dict[str, Any]:
    """Run one case to its end; examples/s of each epoch, summed over ranks."""
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    if case == "in memory":
        job.write(output / "job.json")
        command = [sys.executable, __file__, "--in-memory", str(output / "job.json")]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    elif case == "petastorm":
        workers.launch(job, workers=1, launcher="local", threads=1, timeout_s=600)
    else:
        run_horovod(job, 2 if "2" in case else 1)
    training = json.loads((output / "training.json").read_text())
    speeds = [epoch["examples_per_s"] for epoch in training["epochs"]]
    steps, batch = batch_plan(job.examples, training["workers"], job.settings["batch_size"])
    return {
        "case": case,
        "examples_per_s": statistics.median(speeds[1:]),
        "by_epoch": speeds,
        "steps": steps,
        "batch": batch,
        "device": training["device"],
    }


def run_horovod(job: task.Job, ranks: int) -> None:
    """The worker under horovodrun, also for a single rank, which `workers.launch` would start without it."""
    path = Path(job.output) / "job.json"
    job.write(path)
    horovodrun = str(Path(sys.executable).with_name("horovodrun"))
    worker = [
        sys.executable,
        "-m",
        "recsys_spark.train.workers",
        "--job",
        str(path),
        "--of",
        str(os.getpid()),
    ]
    command = [horovodrun, "-np", str(ranks), "--gloo", *worker]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, help="paths.root of a finished night")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("build/bench/training.json"))
    parser.add_argument("--in-memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_memory:
        torch.set_num_threads(1)
        workers._keep_memory()
        in_memory(task.Job.read(arguments.in_memory))
        return
    run = newest_run(arguments.root)
    results = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            job = make_job(run, arguments.epochs, Path(folder))
            results.append(measure(case, job))
        ratio = results[-1]["examples_per_s"] / results[0]["examples_per_s"]
        print(
            f"{case:32} {results[-1]['examples_per_s']:>12,.0f} examples/s  {ratio:5.2f} of in memory",
            flush=True,
        )
    kept = {
        "run": run.name,
        "config": {**asdict(job), "features": "", "output": "", "checkpoints": ""},
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
