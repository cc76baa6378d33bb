"""What each training worker runs, alone, under horovodrun, or inside an executor. The only file that imports horovod, and only for more than
one worker."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
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
from torch.nn import Parameter

from recsys_spark.errors import TrainingFailed
from recsys_spark.pipeline.parent_watchdog import end_with
from recsys_spark.stages.train.job_file import Job
from recsys_spark.stages.train.launch import FAULT, PROGRESS, Relay, environment, explain
from recsys_spark.stages.train.loop import Communicator
from recsys_spark.stages.train.task import run_worker

log = logging.getLogger(__name__)

PAUSE_S = 0.0001
"""Between two looks at an exchange that is under way [s]."""


class HorovodCommunicator(Communicator):
    """A group of Horovod ranks. Sparse gradients travel sparse: rows and their numbers are gathered, not the table."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self.hvd = hvd
        self.rank, self.size = hvd.rank(), hvd.size()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()

    def allreduce_sum(self, values: Tensor) -> Tensor:
        return self._wait(self.hvd.allreduce_async(values, op=self.hvd.Sum))

    def broadcast(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in sorted(tensors.items()):
            self.hvd.broadcast_(tensor, 0, name=f"first.{name}")

    def average(self, parameters: list[Parameter]) -> None:
        if self.size == 1:  # they are the means
            return
        dense = {p: p.grad for p in parameters if p.grad is not None and not p.grad.is_sparse}
        sparse = [p.grad for p in parameters if p.grad is not None and p.grad.is_sparse]
        # in one piece: Horovod negotiates every tensor, and its own optimizer waits for each of them in turn
        together = torch.cat([g.flatten() for g in dense.values()])
        waiting = self.hvd.allreduce_async_(together, op=self.hvd.Average, name="gradients")
        finish = [
            self.hvd.sparse_allreduce_async(g, op=self.hvd.Average, name=f"sparse.{i}") for i, g in enumerate(sparse)
        ]
        self._wait(waiting)
        for parameter, piece in zip(dense, together.split([g.numel() for g in dense.values()]), strict=True):
            parameter.grad = piece.view_as(parameter)
        for gradient, result in zip(sparse, finish, strict=True):
            gradient.copy_(result())

    def _wait(self, handle: Any) -> Tensor:
        """Horovod's own way of waiting is to ask again and again, on a processor that the other ranks and its own threads need."""
        while not self.hvd.poll(handle):
            time.sleep(PAUSE_S)
        result: Tensor = self.hvd.synchronize(handle)
        return result


def launch_in_executors(job: Job, workers: int, threads: int, timeout_s: int) -> None:
    """`launch` for the launcher `spark`."""
    import horovod.spark

    tail: deque[str] = deque(maxlen=200)
    relay = Relay(tail)
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
            raise TrainingFailed(explain(1, tail)) from error


def run_in_executor(job: dict[str, Any], threads: int) -> None:
    """What each rank of the spark launcher runs, in a process beside its executor."""
    _work(Job(**job), threads, HorovodCommunicator())


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
    stay_on_own_cores(communicator, threads)
    keep_memory()
    try:
        run_worker(job, communicator)
    except Exception as error:
        traceback.print_exc()
        print(f"{FAULT}{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        raise SystemExit(1) from None


def stay_on_own_cores(communicator: Communicator, threads: int) -> None:
    """Keep this thread, and those that it starts from now on, on this worker's share of the machine's cores, where a share has one for each of `threads`: else two
    workers are put on one core again and again while another is idle, for some ms each time. Horovod's threads, which are there already, run
    wherever a core is free."""
    if not hasattr(os, "sched_setaffinity"):  # Linux alone has it
        return
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // communicator.local_size
    if share >= threads:
        with suppress(OSError):  # a rank without is slower, no more
            os.sched_setaffinity(0, cores[communicator.local_rank * share :][:share])


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
