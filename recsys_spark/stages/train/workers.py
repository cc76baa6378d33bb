"""The entry of a training worker: alone, as a Horovod rank of this machine, or in an executor."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

from recsys_spark.errors import TrainingFailed
from recsys_spark.pipeline.parent_watchdog import exit_with
from recsys_spark.stages.train.job_file import Job
from recsys_spark.stages.train.launch import FAULT, PROGRESS, Relay, environment, explain
from recsys_spark.stages.train.loop import Communicator
from recsys_spark.stages.train.task import run_worker

log = logging.getLogger(__name__)


class HorovodCommunicator(Communicator):
    """A group of Horovod ranks. Of sparse gradients only the rows that are not zero are exchanged."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self.hvd = hvd
        self.rank, self.size = hvd.rank(), hvd.size()
        self.local_rank, self.local_size = hvd.local_rank(), hvd.local_size()

    def allreduce_sum(self, values: Tensor) -> Tensor:
        return self.hvd.allreduce(values, op=self.hvd.Sum)

    def broadcast(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in sorted(tensors.items()):
            self.hvd.broadcast_(tensor, 0, name=f"first.{name}")

    def average_gradients(self, parameters: list[Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        # the ranks negotiate a group once; Horovod's own optimizer negotiates every tensor
        self.hvd.grouped_allreduce_([g for g in gradients if not g.is_sparse], op=self.hvd.Average, name="gradients")
        for i, gradient in enumerate(g for g in gradients if g.is_sparse):
            average = self.hvd.sparse_allreduce_async(gradient, op=self.hvd.Average, name=f"sparse.{i}")
            gradient.copy_(average())


def launch_in_executors(job: Job, workers: int, threads: int, timeout_s: int) -> None:
    """Run `launch.launch` for the launcher `spark`."""
    import horovod.spark

    tail: deque[str] = deque(maxlen=200)
    relay = Relay(tail)
    with _side_effects_undone():
        try:
            horovod.spark.run(
                run_in_executor,
                args=(job, threads),
                num_proc=workers,
                start_timeout=timeout_s,
                use_gloo=True,
                # the executors' interpreter may have another path than the driver's
                executable=os.environ.get("PYSPARK_PYTHON", sys.executable),
                env=environment(threads),
                stdout=relay,
                stderr=relay,
                verbose=0,
            )
        except Exception as error:
            tail.append(str(error))
            raise TrainingFailed(explain(1, tail)) from error


def run_in_executor(job: Job, threads: int) -> None:
    """Run one rank of the launcher `spark`, in a process beside its executor."""
    _work(job, threads, HorovodCommunicator())


@contextmanager
def _side_effects_undone() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM that Horovod replaces, and log the stack traces of its threads."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = threading.excepthook
    threading.excepthook = lambda fault: log.debug("train: %s in %s", fault.exc_value, fault.thread)
    try:
        yield
    finally:
        threading.excepthook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: a handler that is not Python's


def _work(job: Job, threads: int, communicator: Communicator) -> None:
    logging.basicConfig(level=logging.WARNING, format=f"{PROGRESS}%(message)s", stream=sys.stdout)
    logging.getLogger("recsys_spark").setLevel(logging.INFO if communicator.rank == 0 else logging.WARNING)
    torch.set_num_threads(threads)
    try:
        run_worker(job, communicator)
    except Exception as error:
        traceback.print_exc()
        print(f"{FAULT}{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        raise SystemExit(1) from None


def stay_on_own_cores(local_rank: int, local_size: int) -> None:
    """Restrict this process to its share of the machine's cores.

    If the system puts two ranks on one core for a while, all ranks wait. On two cores an epoch takes a sixth longer.
    """
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // local_size
    if share:
        os.sched_setaffinity(0, cores[local_rank * share : (local_rank + 1) * share])


def main() -> None:
    parser = argparse.ArgumentParser(description="One training worker, alone or as a Horovod rank.")
    parser.add_argument("--job", type=Path, required=True, help="the job file")
    parser.add_argument("--of", type=int, required=True, help="process id of the job. The worker ends when it ends")
    arguments = parser.parse_args()
    exit_with(arguments.of)
    communicator = Communicator()
    if "HOROVOD_RANK" in os.environ:
        # before Horovod starts its threads, which inherit the cores
        stay_on_own_cores(int(os.environ["HOROVOD_LOCAL_RANK"]), int(os.environ["HOROVOD_LOCAL_SIZE"]))
        communicator = HorovodCommunicator()
    _work(Job.read(arguments.job), int(os.environ["OMP_NUM_THREADS"]), communicator)
