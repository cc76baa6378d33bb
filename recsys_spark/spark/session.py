"""Makes the Spark session of a job. Nothing else in the package creates or configures one."""

from __future__ import annotations

import logging
import math
import os
import sys

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from recsys_spark.spark import daemon

log = logging.getLogger(__name__)

_PARTITIONS = "spark.sql.shuffle.partitions"
REQUIRED = {
    # every time in the house is UTC, whatever the machine's zone
    "spark.sql.session.timeZone": "UTC",
    # Parquet times that Arrow, Petastorm and warehouses read alike
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # a column of another type must fail, not turn into null in silence; bad values are quarantined by try_* functions
    "spark.sql.ansi.enabled": "true",
    # an executor whose Python dies must say where
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    # tasks of RDDs and of frames find the same environment, so they share their Python workers
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
}
SENSIBLE = {
    # Python workers are forked with their imports done; the package is installed wherever Python runs
    "spark.python.daemon.module": "recsys_spark.spark.daemon",
    # Spark draws bars over the lines of a job that Python starts by itself
    "spark.ui.showConsoleProgress": "false",
    # otherwise every column that Python names asks Java several times more, a millisecond, for errors to say on which line that was
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
"""What another choice may replace."""
BYTES_A_PARTITION = 16 * 2**20
"""Of the raw log, for each partition after a shuffle: a few hundred thousand events, which a task sorts in memory."""


def make_session(
    *,
    app_name: str,
    master: str | None,
    shuffle_partitions: int | None,
    options: dict[str, str],
    input_bytes: int | None = None,
    imports: tuple[str, ...] = (),
) -> SparkSession:
    """The session of this process. What spark-submit was given is kept; `REQUIRED` is always applied.

    `imports` are modules that Python workers will need; they are imported once on each machine, before the workers are forked.
    Without `shuffle_partitions` the size of the log, `input_bytes`, chooses them; when that is not known either they are Spark's own.
    Spark's own voice is heard in debug mode only: its errors come with stack traces, and the job tells them in a line.
    """
    # executors of local mode run the driver's interpreter, not whatever python3 is first on the path
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    wanted = {"spark.app.name": app_name, "spark.master": master, **SENSIBLE, **options}
    if imports:
        wanted[f"spark.executorEnv.{daemon.IMPORTS}"] = " ".join(imports)
    if shuffle_partitions:
        wanted[_PARTITIONS] = str(shuffle_partitions)
    given = _given()
    builder = SparkSession.builder
    for key, value in {**{k: v for k, v in wanted.items() if v and k not in given}, **REQUIRED}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR" if log.isEnabledFor(logging.DEBUG) else "OFF")
    if input_bytes is not None and _PARTITIONS not in {**wanted, **given}:
        cores = session.sparkContext.defaultParallelism
        session.conf.set(_PARTITIONS, str(partitions_for(input_bytes, cores)))
    return session


def partitions_for(input_bytes: int, cores: int) -> int:
    """Partitions after a shuffle for a log of `input_bytes`: two for each core, or more where they would grow too large."""
    return max(2 * cores, math.ceil(input_bytes / BYTES_A_PARTITION))


def _given() -> dict[str, str]:
    """What spark-submit was given on its command line and in its files; nothing when Python started the job by itself."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()
    found = dict(SparkConf().getAll())
    # spark-submit names every application after its file, asked or not
    found.pop("spark.app.name", None)
    return found
