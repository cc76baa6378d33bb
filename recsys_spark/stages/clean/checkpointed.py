"""Small intermediate results that larger frames are joined with."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.stages.clean.passing import counting

BROADCAST_ROWS = 500_000
"""Frames up to this size are sent to every task, so that the log stays where it is [rows]."""


def pinned(df: DataFrame) -> tuple[DataFrame, int]:
    """`df` computed once, and its number of rows, which are counted as they pass. Runs one job.

    What comes of it is cut off from how it was made: a plan that is built on itself several times over takes longer to plan than to run. It
    carries a hint to broadcast it when it is small, which Spark cannot see by itself.
    """
    watched, seen = counting(df, {"rows": F.count(F.lit(1))})
    done = watched.localCheckpoint()
    rows = seen()["rows"]
    return (F.broadcast(done) if rows <= BROADCAST_ROWS else done), rows
