"""Training: in memory, through Petastorm, and with Horovod on one and two ranks. Peers are the plainer ways of the same loop.

    python benchmarks/training.py build/demo [--epochs 3]

Reads the release features of the newest run under the root (any night will do). Every case runs the same loop, network, batch size a rank and one
thread of arithmetic a rank; only what brings the batches and joins the gradients differs. Seconds are those of as many examples as the table
has, by the median speed of the epochs after the first, which warms up. Two ranks take half of the examples each. `one rank on one thread` is
held to one core, its feed and Horovod's own thread included. `two ranks that exchange nothing` are two trainings beside each other: what the machine
has for two, and no exchange of gradients could beat. Where there is a GPU, one rank trains on it, and the cases of the processor are left out.
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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow.parquet as pq
import torch

from recsys_spark.stages.train import launch, task, workers
from recsys_spark.stages.train.feed import COLUMNS, as_numbers
from recsys_spark.stages.train.job_file import Job
from recsys_spark.stages.train.loop import Communicator


def newest_run(root: Path) -> Path:
    """The newest run under `root` whose release features are finished."""
    done = sorted(root.glob("runs/*/release/features/manifest.json"), key=lambda path: path.stat().st_mtime)
    if not done:
        raise SystemExit(f"no run under {root} has release features; run `make demo` first")
    return done[-1].parents[2]


def make_job(run: Path, epochs: int) -> Job:
    """The job of the run's release training, for `epochs` epochs, without validation."""
    train = json.loads((run / "release" / "train" / "manifest.json").read_text())["settings"]
    features = json.loads((run / "release" / "features" / "manifest.json").read_text())
    clean = json.loads((run / "clean" / "manifest.json").read_text())
    return Job(
        features=str((run / "release" / "features").resolve()),
        output="",
        checkpoints="",
        weights="",
        start="",
        neighbours="",
        examples=features["counts"]["examples"],
        kind=features["settings"]["examples"],
        n_items=clean["counts"]["n_items"],
        n_features=features["counts"]["features"],
        history_length=features["settings"]["history_length"],
        epochs=epochs,
        decay_epochs=train["epochs"],
        validate=False,
        settings=train,
    )


def in_memory(job: Job) -> None:
    """The same worker with the examples in tensors: no Petastorm, no Horovod. Runs in a process of its own, like the others."""
    table = pq.read_table(Path(job.features) / "examples", columns=list(COLUMNS))
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
    """`command`, held to one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def timed(job: Job, command: list[str], copies: int = 1) -> harness.Timed:
    """Runs `command` on the job file behind it; the seconds of an epoch after the first. `copies` run beside each other, each for itself, and
    count as one that has the speed of all."""

    def run() -> harness.Timing:
        with tempfile.TemporaryDirectory() as folder:
            folders = [Path(folder) / str(copy) for copy in range(copies)]
            # copies on cores of their own, as Horovod's ranks are
            commands = [on_core(core, command) for core in range(copies)] if copies > 1 else [command]
            started = [_start(job, *both) for both in zip(commands, folders)]
            codes = [process.wait() for process in started]
            if any(codes):
                raise RuntimeError(f"{' '.join(command)} ended with {codes}")
            trainings = [json.loads((own / "training.json").read_text()) for own in folders]
        speeds = [sum(of) for of in zip(*([e["examples_per_s"] for e in t["epochs"]] for t in trainings))]
        facts = {"examples_per_s": statistics.median(speeds[1:]), "by_epoch": speeds}
        return harness.Timing(job.examples / facts["examples_per_s"], facts)

    return run


def _start(job: Job, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    own = replace(job, output=str(folder), checkpoints=str(folder / "checkpoints"))
    own.write(folder / launch.JOB_FILE)
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
        workers.keep_memory()
        in_memory(Job.read(arguments.job))
        return
    job = make_job(newest_run(arguments.root), arguments.epochs)
    worker = [sys.executable, "-m", "recsys_spark.stages.train", "--job"]
    one = [*launch.horovodrun(1), *worker]
    memory = {"in memory": timed(job, [sys.executable, __file__, "--job"])}
    config = {**asdict(job), "features": "", "output": "", "checkpoints": ""}
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
    harness.measure("training, Horovod two ranks", timed(job, [*launch.horovodrun(2), *worker]), single, config)


if __name__ == "__main__":
    main()
