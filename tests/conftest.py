"""One Spark session for the whole run, and nothing that stays behind."""

import os
import sys

import pytest

from night import Night

# the workers of local mode must run this interpreter, and one thread each, or two tests' arithmetic fights over two cores
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    from recsys_spark.spark.session import make_session

    options = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        "spark.default.parallelism": "2",
    }
    session = make_session(app_name="tests", master="local[2]", shuffle_partitions=2, options=options)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def finished_night(tmp_path_factory):
    """A whole night on the small log, made once for all tests; they work on copies of it."""
    return Night.make(tmp_path_factory.mktemp("finished_night"))
