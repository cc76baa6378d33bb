"""Training: from memory, through Petastorm, and with Horovod on one and two ranks.

    python benchmarks/training.py build/demo [--epochs 3]

Reads the release features of the newest run under the root; any night will do. Every case has the same loop, network
and batch size, and one thread a rank. Only the feed and the averaging of gradients differ. Seconds are those of one
epoch, by the median speed of the epochs after the first, which warms up. Two ranks take half of the examples each.

`one rank on one thread` runs on one core, with its feed and Horovod's own thread. `two ranks that exchange nothing` are
two trainings at the same time: an upper bound of what two ranks can reach on the machine. On a machine with a GPU one
rank trains on it, and the cases of two ranks are left out.
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
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow.parquet as pq
import torch

from recsys_spark.stages.train import launch, task
from recsys_spark.stages.train.feed import COLUMNS, as_numbers
from recsys_spark.stages.train.job_file import Job, TrainSettings
from recsys_spark.stages.train.loop import Communicator


def newest_run(root: Path) -> Path:
    """Return the newest run under `root` whose release features are finished."""
    done = sorted(root.glob("runs/*/release/features/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not done:
        raise SystemExit(f"no run under {root} has release features. Run `make demo` first")
    return done[-1].parents[2]


def make_job(run: Path, epochs: int) -> Job:
    """Return the job of the run's release training, for `epochs` epochs, without validation."""
    train = json.loads((run / "release" / "train" / "manifest.json").read_text())["settings"]
    features = json.loads((run / "release" / "features" / "manifest.json").read_text())
    clean = json.loads((run / "clean" / "manifest.json").read_text())
    return Job(
        features=(run / "release" / "features").resolve(),
        output=Path(),
        checkpoints=Path(),
        weights=None,
        start=None,
        neighbours=None,
        examples=features["counts"]["examples"],
        kind=features["settings"]["examples"],
        n_items=clean["counts"]["n_items"],
        n_features=features["counts"]["features"],
        history_length=features["settings"]["history_length"],
        epochs=epochs,
        decay_epochs=train["epochs"],
        validate=False,
        settings=TrainSettings(**{key.name: train[key.name] for key in fields(TrainSettings)}),
    )


def in_memory(job: Job) -> None:
    """Run the same worker with the examples in memory, without Petastorm and Horovod."""
    table = pq.read_table(job.features / "examples", columns=list(COLUMNS))
    rows = {
        name: torch.from_numpy(as_numbers(table.column(name), kind).astype(np.int32)) for name, kind in COLUMNS.items()
    }

    def batches(
        folder: Path, *, batch: int, steps: int, seed: int, epoch: int, **_: Any
    ) -> Iterator[dict[str, torch.Tensor]]:
        order = torch.randperm(job.examples, generator=torch.Generator().manual_seed(seed + epoch))
        for step in range(steps):
            at = order[step * batch : (step + 1) * batch]
            yield {name: values[at] for name, values in rows.items()}

    task.feed.batches = batches
    task.run_worker(job, Communicator())


def on_core(core: int, command: list[str]) -> list[str]:
    """Return `command` restricted to one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def timed(job: Job, command: list[str], copies: int = 1) -> harness.Timed:
    """Return a benchmark that runs `command` with the job file as last argument, and gives the seconds of an epoch.

    `copies` run at the same time, each for itself. Their speeds are added.
    """

    def run() -> harness.Timing:
        with tempfile.TemporaryDirectory() as folder:
            folders = [Path(folder) / str(copy) for copy in range(copies)]
            started = [_start(job, command, copy) for copy in folders]
            codes = [process.wait() for process in started]
            if any(codes):
                raise RuntimeError(f"{' '.join(command)} ended with {codes}")
            trainings = [json.loads((copy / "training.json").read_text()) for copy in folders]
        speeds = [sum(of) for of in zip(*([e["examples_per_s"] for e in t["epochs"]] for t in trainings))]
        facts = {"examples_per_s": statistics.median(speeds[1:]), "by_epoch": speeds}
        return harness.Timing(job.examples / facts["examples_per_s"], facts)

    return run


def _start(job: Job, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    replace(job, output=folder, checkpoints=folder / "checkpoints").write(folder / launch.JOB_FILE)
    full = [*command, str(folder / launch.JOB_FILE), "--of", str(os.getpid())]
    environment = {**os.environ, **launch.environment(threads=1)}
    return subprocess.Popen(full, env=environment, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, help="paths.root of a finished night")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        torch.set_num_threads(1)
        in_memory(Job.read(arguments.job))
        return
    job = make_job(newest_run(arguments.root), arguments.epochs)
    worker = [sys.executable, "-m", "recsys_spark.stages.train", "--job"]
    one = [*launch.as_ranks(1), *worker]
    memory = {"in memory": timed(job, [sys.executable, __file__, "--job"])}
    config = {name: value for name, value in asdict(job).items() if not isinstance(value, Path)}
    on = "GPU training" if torch.cuda.is_available() else "training"
    harness.measure(f"{on}, Petastorm", timed(job, worker), memory, config)
    harness.measure(f"{on}, Horovod one rank", timed(job, one), memory, config)
    if torch.cuda.is_available():
        return
    single = {
        "one rank on one thread": timed(job, on_core(0, one)),
        "one rank of one thread, its feed beside it": timed(job, one),
        "two ranks that exchange nothing": timed(job, worker, copies=2),
    }
    harness.measure("training, Horovod two ranks", timed(job, [*launch.as_ranks(2), *worker]), single, config)


if __name__ == "__main__":
    main()
