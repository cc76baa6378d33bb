"""Makes the Spark session of a job. Nothing else in the package creates or configures one."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

REQUIRED = {
    # every time in the house is UTC, whatever the machine's zone
    "spark.sql.session.timeZone": "UTC",
    # Parquet times that Arrow, Petastorm and warehouses read alike
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # a column of another type must fail, not turn into null in silence; bad values are quarantined by try_* functions
    "spark.sql.ansi.enabled": "true",
    # an executor whose Python dies must say where
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
}


def make_session(
    *, app_name: str, master: str | None, shuffle_partitions: int | None, options: dict[str, str]
) -> SparkSession:
    """The session of this process. What spark-submit set (master, memory) is kept; `REQUIRED` is always applied."""
    # executors of local mode run the driver's interpreter, not whatever python3 is first on the path
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    if master:
        builder = builder.master(master)
    if shuffle_partitions:
        builder = builder.config("spark.sql.shuffle.partitions", str(shuffle_partitions))
    for key, value in {**options, **REQUIRED}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
