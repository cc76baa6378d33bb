"""Starts the training workers, watches them, and explains why one failed. It runs in the driver and needs no torch.

Workers print lines. Those marked as progress go to the job's log, the last of the others explain a failure.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import recsys_spark
from recsys_spark.errors import TrainingFailed
from recsys_spark.stages.train.job_file import Job

log = logging.getLogger(__name__)

PROGRESS, FAULT = "[progress] ", "[fault] "
JOB_FILE = "job.json"

_RANK_PREFIX = re.compile(r"^\[\d+(?:,\d+)?\]<std(?:out|err)>:\s?")
_ENDED = re.compile(r"Process (\d+) exit with status code (\d+)")

HOROVOD_ENVIRONMENT = {
    # a rank that lost its peers must not wait for them forever
    "HOROVOD_STALL_CHECK_TIME_SECONDS": "60",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "300",
    "HOROVOD_GLOO_TIMEOUT_SECONDS": "60",
}


def launch(
    job: Job,
    *,
    workers: int,
    launcher: str,
    threads: int,
    timeout_s: int,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run `workers` training workers of `threads` threads until all are done.

    `TrainingFailed` when one fails, after all of them have ended. launcher `local`: processes on this machine. `spark`:
    inside the executors of the active session, which must have `workers` free slots within `timeout_s` seconds.
    `watch` is called after each line of progress of local workers. If it raises, they are ended.
    """
    if launcher == "spark":
        from recsys_spark.stages.train.workers import launch_in_executors

        launch_in_executors(job, workers, threads, timeout_s)
    else:
        _launch_local(job, workers, threads, watch)


def _launch_local(job: Job, workers: int, threads: int, watch: Callable[[], None] | None) -> None:
    path = job.output / JOB_FILE
    job.write(path)
    command = worker_command(path)
    if workers > 1:
        command = [*as_ranks(workers), *command]
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
            if relay(line, tail) and watch:
                watch()
        code = process.wait()
    finally:
        _end(process)
    path.unlink(missing_ok=True)
    if code:
        raise TrainingFailed(explain(code, tail))


def as_ranks(ranks: int) -> list[str]:
    """Return the start of a command line that runs the rest as `ranks` Horovod ranks on this machine."""
    return [sys.executable, "-m", "recsys_spark.stages.train.local_ranks", str(ranks)]


def worker_command(job_file: Path) -> list[str]:
    """Return the command line of one training worker. It ends when this process ends."""
    of = str(os.getpid())
    return [sys.executable, "-m", "recsys_spark.stages.train", "--job", str(job_file), "--of", of]


def environment(threads: int) -> dict[str, str]:
    """Return the variables that the workers' environment has in addition to this process's own."""
    # the workers use the same package as this process, also from a checkout that is not installed
    paths = [str(Path(recsys_spark.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **HOROVOD_ENVIRONMENT,
        "OMP_NUM_THREADS": str(threads),
        # threads that spin while they wait make a busy machine four times slower
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
    }


def relay(line: str, tail: deque[str]) -> bool:
    """Pass a worker's line to the log or keep it in `tail`. Return True for a line of progress."""
    text = _RANK_PREFIX.sub("", line.rstrip())
    if text.startswith(PROGRESS):
        log.info("train: %s", text.removeprefix(PROGRESS))
        return True
    if text:
        tail.append(text)
        log.debug("train: %s", text)
    return False


class Relay:
    """A stream for Horovod to write to, which relays line by line."""

    def __init__(self, tail: deque[str]):
        self.tail = tail
        self.rest = ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            relay(line, self.tail)

    def flush(self) -> None:
        """Do nothing: lines are relayed when they end."""


def explain(code: int, tail: deque[str]) -> str:
    """Return one line: the exit code, the rank that ended first, and the last line of a worker."""
    ended = next((match for line in tail if (match := _ENDED.search(line))), None)
    faults = [line.removeprefix(FAULT) for line in tail if line.startswith(FAULT)]
    if ended:
        worker, code = f"training worker {ended[1]}", int(ended[2])
    else:
        worker = "training worker"
    number = -code if code < 0 else code - 128 if code > 128 else 0
    how = f"was killed by signal {number}" if number else f"ended with exit code {code}"
    cause = faults[0] if faults else tail[-1] if tail else "no output"
    return f"{worker} {how}: {cause}. Run the job again to continue from the last checkpoint"


def _end(process: subprocess.Popen[str]) -> None:
    """End `process` and all its children."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
