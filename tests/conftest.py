"""Fixtures that all tests share: a Spark session, and the root of a finished night."""

import fcntl
import os
import sys

import pytest

from night import JAVA_OPTIONS, Night

# Python workers must run this interpreter. One thread each, because two workers of pytest-xdist share two cores
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Mark the tests that start Spark, and put the longest tests first, so that workers end at the same time."""
    for item in items:
        if "integration" in item.path.parts or {"spark", "finished_night"} & set(item.fixturenames):
            item.add_marker("spark")
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    from recsys_spark.spark.session import make_session

    options = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.default.parallelism": "2",
    }
    session = make_session(app_name="tests", master="local[2]", shuffle_partitions=2, options=options)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def finished_night(tmp_path_factory, worker_id):
    """A whole night on the small log. It runs once for all workers of pytest-xdist. Tests work on copies of it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished_night"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Night.make(folder)
