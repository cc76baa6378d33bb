"""The session under spark-submit: what the command line says is kept."""

import subprocess
import threading
from types import SimpleNamespace

import pytest

from night import SPARK_HOME, environment
from recsys_spark.spark.session import partitions_for, start_python_workers

JOB = """
from recsys_spark.spark.session import REQUIRED, make_session
s = make_session(app_name="mine", master="local[2]", shuffle_partitions=9, options={"spark.sql.files.maxRecordsPerFile": "5"})
names = ["spark.app.name", "spark.master", "spark.sql.shuffle.partitions", "spark.sql.files.maxRecordsPerFile", *REQUIRED]
print("found", *[s.conf.get(name) for name in names])
"""


def test_the_command_line_wins_over_the_configuration_but_not_over_what_is_required(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    settings = {"spark.sql.shuffle.partitions": "3", "spark.sql.session.timeZone": "Asia/Tokyo"}
    options = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    command = [SPARK_HOME / "bin/spark-submit", "--master", "local[1]", *options, tmp_path / "job.py"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    (found,) = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("found ")]
    assert found == ["mine", "local[1]", "3", "5", "UTC", "TIMESTAMP_MICROS", "true", "true", "true", "false"]


def test_partitions_grow_with_the_log_and_with_the_cores():
    assert partitions_for(0, 2) == partitions_for(64 * 2**20, 2) == 4
    assert partitions_for(64 * 2**20 + 1, 2) == 5
    assert partitions_for(2**40, 8) == 65_536
    assert partitions_for(2**20, 8) == 16


STARTING = """
import os, time
from pathlib import Path
from recsys_spark.spark.session import make_session, start_python_workers

def daemons():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            # Java is the parent of this process, and of the daemon
            if parent == os.getppid() and b"recsys_spark.spark.daemon" in (folder / "cmdline").read_bytes():
                yield folder.name
        except FileNotFoundError:
            pass

s = make_session(app_name="x", master=None, shuffle_partitions=1, options={})
before, limit = list(daemons()), time.monotonic() + 100
start_python_workers(s)
while not list(daemons()) and time.monotonic() < limit:
    time.sleep(0.1)
print("found", len(before), len(list(daemons())))
"""


def test_python_workers_start_before_anybody_needs_them(tmp_path):
    (tmp_path / "job.py").write_text(STARTING)
    command = [SPARK_HOME / "bin/spark-submit", "--master", "local[1]", tmp_path / "job.py"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert "found 0 1" in done.stdout


@pytest.mark.parametrize(
    ("master", "asked"),
    [("local", True), ("local[*]", True), ("yarn", False), ("local-cluster[1,1,1024]", False)],
)
def test_python_workers_are_started_on_this_machine_alone(master, asked):
    called = threading.Event()
    start_python_workers(
        SimpleNamespace(sparkContext=SimpleNamespace(master=master), range=lambda *_, **__: called.set())
    )
    assert called.wait(5 if asked else 0.2) == asked
