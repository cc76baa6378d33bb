"""Starts the training workers and is what each of them runs. The only file that imports horovod, and only for more than one worker.

    python -m recsys_spark.train.workers --job job.json        one worker, started by `launch`, alone or under horovodrun

Workers print lines; `launch` passes those marked as progress to the job's log and keeps the rest for the case that one fails.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import recsys_spark
from recsys_spark.errors import TrainingFailed
from recsys_spark.lifeline import end_with
from recsys_spark.train.loop import Communicator
from recsys_spark.train.task import Job, run_worker

log = logging.getLogger(__name__)

PROGRESS, FAULT = "[progress] ", "[fault] "
JOB_FILE = "job.json"

_RANK_PREFIX = re.compile(r"^\[\d+(?:,\d+)?\]<std(?:out|err)>:\s?")
_ENDED = re.compile(r"Process (\d+) exit with status code (\d+)")

PAUSE_S = 0.0001
"""Between two looks at an exchange that is under way [s]."""

HOROVOD_ENVIRONMENT = {
    # a rank that lost its peers must not wait for them for ever
    "HOROVOD_STALL_CHECK_TIME_SECONDS": "60",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "300",
    "HOROVOD_GLOO_TIMEOUT_SECONDS": "60",
}


class HorovodCommunicator(Communicator):
    """A group of Horovod ranks. Sparse gradients travel sparse: rows and their numbers are gathered, not the table."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self.hvd = hvd
        self.rank, self.size = hvd.rank(), hvd.size()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()

    def allreduce_sum(self, values: Tensor) -> Tensor:
        total: Tensor = self.hvd.allreduce(values, op=self.hvd.Sum)
        return total

    def broadcast(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in sorted(tensors.items()):
            self.hvd.broadcast_(tensor, 0, name=f"first.{name}")

    def average(self, gradients: list[Tensor]) -> None:
        dense = [g for g in gradients if not g.is_sparse]
        # in one piece: Horovod negotiates every tensor, and its own optimizer waits for each of them in turn
        together = torch.cat([g.flatten() for g in dense])
        waiting = [self.hvd.allreduce_async_(together, op=self.hvd.Average, name="gradients")]
        sparse = [g for g in gradients if g.is_sparse]
        finish = [
            self.hvd.sparse_allreduce_async(g, op=self.hvd.Average, name=f"sparse.{i}")
            for i, g in enumerate(sparse)
        ]
        self._wait(waiting[0])
        torch._foreach_copy_([g.view(-1) for g in dense], together.split([g.numel() for g in dense]))
        for gradient, result in zip(sparse, finish, strict=True):
            gradient.copy_(result())

    def _wait(self, handle: Any) -> None:
        """Horovod's own way of waiting is to ask again and again, on a processor that the other ranks and its own threads need."""
        while not self.hvd.poll(handle):
            time.sleep(PAUSE_S)
        self.hvd.synchronize(handle)


def launch(job: Job, *, workers: int, launcher: str, threads: int, timeout_s: int) -> None:
    """Run `workers` training workers until all are done; `TrainingFailed` when one is not, after all of them are gone.

    launcher `local`: processes on this machine. `spark`: inside the executors of the active session, which must have `workers` free slots
    within `timeout_s` seconds.
    """
    if launcher == "spark":
        _launch_spark(job, workers, threads, timeout_s)
    else:
        _launch_local(job, workers, threads)


def _launch_local(job: Job, workers: int, threads: int) -> None:
    path = Path(job.output) / JOB_FILE
    job.write(path)
    command = worker_command(path)
    if workers > 1:
        command = [*horovodrun(workers), *command]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **environment(threads)},
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=200)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            _relay(line, tail)
        code = process.wait()
    finally:
        _end(process)
    path.unlink(missing_ok=True)
    if code:
        raise TrainingFailed(_explain(code, tail))


def _launch_spark(job: Job, workers: int, threads: int, timeout_s: int) -> None:
    import horovod.spark

    tail: deque[str] = deque(maxlen=200)
    relay = _Relay(tail)
    with _contained():
        try:
            horovod.spark.run(
                run_in_executor,
                args=(asdict(job), threads),
                num_proc=workers,
                start_timeout=timeout_s,
                use_gloo=True,
                # the executors' interpreter, which need not lie where the driver's does
                executable=os.environ.get("PYSPARK_PYTHON", sys.executable),
                env=environment(threads),
                stdout=relay,
                stderr=relay,
                verbose=0,
            )
        except Exception as error:
            tail.append(str(error))
            raise TrainingFailed(_explain(1, tail)) from error


def run_in_executor(job: dict[str, Any], threads: int) -> None:
    """What each rank of the spark launcher runs, in a process beside its executor."""
    _work(Job(**job), threads, HorovodCommunicator())


def horovodrun(ranks: int) -> list[str]:
    """What starts a command, put behind it, as `ranks` Horovod ranks on this machine.

    Not the script of that name: in an unpacked archive it would run whatever python is first on the path.
    """
    return [sys.executable, "-m", "horovod.runner.launch", "-np", str(ranks), "--gloo"]


def worker_command(job_file: Path) -> list[str]:
    """One training worker, which ends with this process."""
    of = str(os.getpid())
    return [sys.executable, "-m", "recsys_spark.train.workers", "--job", str(job_file), "--of", of]


def environment(threads: int) -> dict[str, str]:
    """What the workers' environment has beside this process's own."""
    # the same package in the workers as here, also from a checkout that is not installed
    paths = [str(Path(recsys_spark.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **HOROVOD_ENVIRONMENT,
        "OMP_NUM_THREADS": str(threads),
        # threads that spin while they wait make a busy machine four times slower
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
    }


def _relay(line: str, tail: deque[str]) -> None:
    text = _RANK_PREFIX.sub("", line.rstrip())
    if text.startswith(PROGRESS):
        log.info("train: %s", text.removeprefix(PROGRESS))
    elif text:
        tail.append(text)
        log.debug("train: %s", text)


class _Relay:
    """A stream for Horovod to write to, cut into lines."""

    def __init__(self, tail: deque[str]):
        self.tail = tail
        self.rest = ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            _relay(line, self.tail)

    def flush(self) -> None:
        """Lines are passed on as they end."""


def _explain(code: int, tail: deque[str]) -> str:
    """One line on what went wrong: the exit code, the rank that ended first, and what a worker said last."""
    ended = next((match for line in tail if (match := _ENDED.search(line))), None)
    faults = [line.removeprefix(FAULT) for line in tail if line.startswith(FAULT)]
    if ended:
        who, code = f"training worker {ended[1]}", int(ended[2])
    else:
        who = "training worker"
    signalled = -code if code < 0 else code - 128 if code > 128 else 0
    how = f"was killed by signal {signalled}" if signalled else f"ended with exit code {code}"
    said = faults[0] if faults else tail[-1] if tail else "it said nothing"
    return f"{who} {how}: {said}; run again, and training goes on from its last checkpoint"


def _end(process: subprocess.Popen[str]) -> None:
    """Make sure that nothing of `process` is left, however this job came here."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _contained() -> Iterator[None]:
    """Horovod leaves its own handlers on SIGINT and SIGTERM, and a failed job's thread prints a stack trace past the log."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = threading.excepthook
    threading.excepthook = lambda fault: log.debug("train: %s in %s", fault.exc_value, fault.thread)
    try:
        yield
    finally:
        threading.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: a handler that is not Python's


def _work(job: Job, threads: int, communicator: Communicator) -> None:
    logging.basicConfig(level=logging.WARNING, format=f"{PROGRESS}%(message)s", stream=sys.stdout)
    logging.getLogger("recsys_spark").setLevel(logging.INFO if communicator.rank == 0 else logging.WARNING)
    torch.set_num_threads(threads)
    keep_memory()
    try:
        run_worker(job, communicator)
    except Exception as error:
        traceback.print_exc()
        print(f"{FAULT}{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        raise SystemExit(1) from None


def keep_memory() -> None:
    """Let glibc keep large freed blocks: by default each step hands them back, and touching new pages costs two thirds of the softmax."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, 1 << 30)


def main() -> None:
    parser = argparse.ArgumentParser(description="One training worker, alone or under horovodrun.")
    parser.add_argument("--job", type=Path, required=True, help="the job file")
    parser.add_argument(
        "--of", type=int, required=True, help="process id of the job that the worker belongs to and ends with"
    )
    arguments = parser.parse_args()
    end_with(arguments.of)
    communicator = HorovodCommunicator() if "HOROVOD_RANK" in os.environ else Communicator()
    _work(Job.read(arguments.job), int(os.environ["OMP_NUM_THREADS"]), communicator)


if __name__ == "__main__":
    main()
