"""The Spark session of the peers, with as many threads as ours and more memory."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession


def session(shuffle_partitions: int, memory: str = "6g") -> SparkSession:
    """Return a session in local[2] that has run a small job, so that the start is not timed."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    options = {
        "spark.driver.memory": memory,
        # the plan of fifteen iterations of ALS is deep and sometimes overflows a stack of 1 MiB
        "spark.driver.extraJavaOptions": "-Xss16m",
        "spark.sql.shuffle.partitions": str(shuffle_partitions),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local[2]")
    for key, value in options.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    spark.range(1000).repartition(2).selectExpr("sum(id)").collect()
    return spark
