"""Starts the training workers, watches them, and tells what one that fails has said. No torch here: the driver has no use for it.

Workers print lines; those marked as progress are passed to the job's log, the rest is kept for the case that one fails.
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

# it would import torch in a process of its own to ask whether Gloo was built in; without it the first rank fails and says so
_HOROVODRUN = "from horovod.runner import launch; launch.gloo_built = lambda **_: True; launch.run_commandline()"

HOROVOD_ENVIRONMENT = {
    # a rank that lost its peers must not wait for them for ever
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
    """Run `workers` training workers until all are done; `TrainingFailed` when one is not, after all of them are gone.

    launcher `local`: processes on this machine. `spark`: inside the executors of the active session, which must have `workers` free slots
    within `timeout_s` seconds. `watch` is called after each line of progress of local workers; what it raises ends them.
    """
    if launcher == "spark":
        from recsys_spark.stages.train.workers import launch_in_executors

        launch_in_executors(job, workers, threads, timeout_s)
    else:
        _launch_local(job, workers, threads, watch)


def _launch_local(job: Job, workers: int, threads: int, watch: Callable[[], None] | None) -> None:
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
            if relay(line, tail) and watch:
                watch()
        code = process.wait()
    finally:
        _end(process)
    path.unlink(missing_ok=True)
    if code:
        raise TrainingFailed(explain(code, tail))


def horovodrun(ranks: int) -> list[str]:
    """What starts a command, put behind it, as `ranks` Horovod ranks on this machine.

    Not the script of that name: in an unpacked archive it would run whatever python is first on the path.
    """
    return [sys.executable, "-c", _HOROVODRUN, "-np", str(ranks), "--gloo"]


def worker_command(job_file: Path) -> list[str]:
    """One training worker, which ends with this process."""
    of = str(os.getpid())
    return [sys.executable, "-m", "recsys_spark.stages.train", "--job", str(job_file), "--of", of]


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


def relay(line: str, tail: deque[str]) -> bool:
    """Pass a worker's line to the log, or keep it in `tail`; True when it tells of progress."""
    text = _RANK_PREFIX.sub("", line.rstrip())
    if text.startswith(PROGRESS):
        log.info("train: %s", text.removeprefix(PROGRESS))
        return True
    if text:
        tail.append(text)
        log.debug("train: %s", text)
    return False


class Relay:
    """A stream for Horovod to write to, cut into lines."""

    def __init__(self, tail: deque[str]):
        self.tail = tail
        self.rest = ""

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            relay(line, self.tail)

    def flush(self) -> None:
        """Lines are passed on as they end."""


def explain(code: int, tail: deque[str]) -> str:
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
