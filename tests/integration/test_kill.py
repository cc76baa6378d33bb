"""After kill -9 of the driver or of a training rank, the next run publishes the table of an undisturbed night."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from night import RUN_DATE, STEPS, assert_same_table, command, environment, published, run


def kill_when(process, pattern, victim):
    """Read the log until `pattern` appears, then call `victim`, which kills a process; return the whole log."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            victim()
            break
    else:
        raise AssertionError(f"{pattern!r} did not appear:\n{''.join(lines)}")
    lines += process.stdout.readlines()
    return "".join(lines)


def start(overlay, *arguments):
    return subprocess.Popen(
        command("nightly", overlay, *arguments), env=environment(), cwd=overlay.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def processes(pattern):
    pids = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in pids if int(pid) != os.getpid()]


def wait_until_gone(pattern, seconds=30):
    for _ in range(seconds * 5):
        if not processes(pattern):
            return
        time.sleep(0.2)
    raise AssertionError(f"still alive: {[Path(f'/proc/{p}/cmdline').read_text() for p in processes(pattern)]}")


@pytest.mark.parametrize(
    "stage",
    [stage if stage == "release score" else pytest.param(stage, marks=pytest.mark.slow) for stage in STEPS],
)
def test_kill_of_the_driver_in_a_stage(finished_night, tmp_path, stage):
    night = finished_night.copy(tmp_path, until=stage)
    process = start(night.overlay)
    # the process is the driver's JVM, and no process of the job may outlive it
    kill_when(process, f"{stage}: started", lambda: (time.sleep(0.3), os.kill(process.pid, signal.SIGKILL)))
    assert process.wait(30) == -signal.SIGKILL
    wait_until_gone(str(tmp_path))
    folder = tmp_path / "root" / "runs" / RUN_DATE / Path(*stage.split())
    assert folder.is_dir() and not (folder / "manifest.json").exists(), "the stage finished before the kill"
    assert not (night.root / "top_n").exists() or stage == "release publish"
    again = run("nightly", night.overlay)
    assert again.returncode == 0, again.stdout
    done = again.stdout.count("done before, skipped")
    assert done == STEPS.index(stage), again.stdout
    assert_same_table(published(finished_night.root), published(night.root))


def test_kill_of_a_training_rank(finished_night, tmp_path):
    night = finished_night.copy(tmp_path, until="backtest train")
    process = start(night.overlay, "--set", "train.epochs=3")

    def kill_a_rank():
        ranks = [p for p in processes(f"recsys_spark.stages.train --job.*{tmp_path}") if is_rank(p)]
        assert len(ranks) == 2
        os.kill(ranks[0], signal.SIGKILL)

    log = kill_when(process, r"epoch 1\b", kill_a_rank)
    assert process.wait(60) == 11, log
    assert [line[:7] for line in log.splitlines() if "error: " in line] == ["error: "], log
    wait_until_gone(str(tmp_path))
    assert not (night.root / "top_n").exists()
    again = run("nightly", night.overlay)
    assert again.returncode == 0, again.stdout
    assert_same_table(published(finished_night.root), published(night.root))


def is_rank(pid):
    try:
        return b"HOROVOD_RANK=" in open(f"/proc/{pid}/environ", "rb").read()
    except OSError:
        return False
