"""Makes the Spark session of a job. Nothing else in the package creates or configures one."""

from __future__ import annotations

import logging
import math
import os
import sys

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from recsys_spark.spark.daemon import PRELOAD

log = logging.getLogger(__name__)

_PARTITIONS = "spark.sql.shuffle.partitions"
REQUIRED = {
    # all times are UTC, whatever the time zone of the machine
    "spark.sql.session.timeZone": "UTC",
    # Arrow, Petastorm and warehouses all read times in microseconds
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # a value that cannot be cast raises an error instead of becoming null. clean casts with try_* functions and
    # quarantines the rest
    "spark.sql.ansi.enabled": "true",
    # a Python worker that crashes prints its stack
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    # the same for RDDs. Tasks of RDDs and of DataFrames share Python workers only if both settings are equal
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
}
"""Settings that stages rely on. They override the configuration and spark-submit."""
DEFAULTS = {
    "spark.python.daemon.module": "recsys_spark.spark.daemon",
    # Spark's progress bars would overwrite the lines of the job's log
    "spark.ui.showConsoleProgress": "false",
    # each column expression would ask Java for its line in the source, which takes a millisecond
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
"""Settings that the configuration and spark-submit can override."""
BYTES_PER_PARTITION = 16 * 2**20
"""Bytes of the raw log per shuffle partition: a few hundred thousand events, which a task sorts in memory."""


def make_session(
    *,
    app_name: str,
    master: str | None,
    shuffle_partitions: int | None,
    options: dict[str, str],
    input_bytes: int | None = None,
    preload: tuple[str, ...] = (),
) -> SparkSession:
    """Return the Spark session of this process.

    Options of spark-submit win over `options`, and `REQUIRED` wins over both. If `shuffle_partitions` is None, it
    follows from `input_bytes`, the size of the raw log. If both are None, Spark's default applies. `preload` names more
    modules for daemon.py to import. Spark's own log is shown at debug level only, because the job reports each error
    in one line.
    """
    # in local mode the Python workers run the driver's interpreter, not the first python3 of the path
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    chosen = {"spark.app.name": app_name, "spark.master": master, **DEFAULTS, **options}
    if preload:
        chosen[f"spark.executorEnv.{PRELOAD}"] = " ".join(preload)
    if shuffle_partitions:
        chosen[_PARTITIONS] = str(shuffle_partitions)
    submitted = _submitted()
    builder = SparkSession.builder
    for key, value in {**{k: v for k, v in chosen.items() if v and k not in submitted}, **REQUIRED}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR" if log.isEnabledFor(logging.DEBUG) else "OFF")
    if input_bytes is not None and _PARTITIONS not in {**chosen, **submitted}:
        cores = session.sparkContext.defaultParallelism
        session.conf.set(_PARTITIONS, str(partitions_for(input_bytes, cores)))
    return session


def partitions_for(input_bytes: int, cores: int) -> int:
    """Return the number of shuffle partitions: one per BYTES_PER_PARTITION of the log, and at least two per core."""
    return max(2 * cores, math.ceil(input_bytes / BYTES_PER_PARTITION))


def _submitted() -> dict[str, str]:
    """Return the options that spark-submit got on its command line and in its files. Empty without spark-submit."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()
    options = dict(SparkConf().getAll())
    # spark-submit names every application after its file, also if no name was given
    options.pop("spark.app.name", None)
    return options
