"""The packaged job on a Spark standalone cluster publishes the same table as in local mode."""

import json
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from night import REPO, SPARK_HOME, assert_same_table, environment, published, run
from synthetic import write_overlay

pytestmark = pytest.mark.cluster

WORKERS = 2


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """The interpreter of an environment with the built wheel. The dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("packaged")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(REPO)], check=True)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    site = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "env" / "bin" / "python"
    locate = [python, "-c", "import recsys_spark; print(recsys_spark.__file__)"]
    where = subprocess.run(locate, cwd=folder, capture_output=True, text=True)
    assert Path(where.stdout.strip()).is_relative_to(site), where
    return str(python)


@pytest.fixture(scope="module")
def master(tmp_path_factory, packaged):
    """The URL of a standalone master with two workers of one core each."""
    folder = tmp_path_factory.mktemp("cluster")
    port, page, *pages = free_ports(2 + WORKERS)
    env = environment(packaged, SPARK_WORKER_DIR=str(folder / "work"), SPARK_LOG_DIR=str(folder))
    deploy = [str(SPARK_HOME / "bin" / "spark-class"), "org.apache.spark.deploy"]
    url = f"spark://127.0.0.1:{port}"
    address = ["--host", "127.0.0.1", "--webui-port"]

    def start(name, *arguments):
        log = open(folder / f"{name}.log", "w")  # noqa: SIM115, the process writes to it until it ends
        command = [deploy[0], f"{deploy[1]}.{arguments[0]}", *arguments[1:]]
        return subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)

    processes = [start("master", "master.Master", "--port", str(port), *address, str(page))]
    try:
        for i, worker_page in enumerate(pages):
            resources = ["--cores", "1", "--memory", "2g"]
            processes.append(start(f"worker{i}", "worker.Worker", *resources, *address, str(worker_page), url))
        wait_for_workers(f"http://127.0.0.1:{page}/json/", folder)
        yield url
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def wait_for_workers(page, folder, seconds=60):
    for _ in range(seconds * 2):
        try:
            with urllib.request.urlopen(page, timeout=5) as answer:
                if json.load(answer)["aliveworkers"] == WORKERS:
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError("\n".join(path.read_text() for path in folder.glob("*.log")))


def test_the_cluster_publishes_what_local_mode_publishes(tmp_path, packaged, master, finished_night):
    there = write_overlay(tmp_path / "cluster.yaml", root=tmp_path / "cluster", data=finished_night.data)
    resources = ("--executor-memory", "1g", "--conf", "spark.executor.cores=1", "--conf", "spark.cores.max=2")
    submit = ("--master", master, *resources)
    cluster = run("nightly", there, "--set", "train.launcher=spark", submit=submit, env=environment(packaged))
    assert cluster.returncode == 0, cluster.stdout

    assert f"spark: {master}" in cluster.stdout
    training = json.loads(
        (tmp_path / "cluster" / "runs" / "2026-02-01" / "backtest" / "train" / "training.json").read_text()
    )
    assert training["workers"] == 2
    assert_same_table(published(finished_night.root), published(tmp_path / "cluster"))
