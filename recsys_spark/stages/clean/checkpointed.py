"""Computes a frame once for several joins, and counts rows while a frame is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

BROADCAST_ROWS = 500_000
"""Maximum number of rows of a frame that joins broadcast, so that the log is not shuffled."""


def observed(df: DataFrame, counts: Mapping[str, Column]) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """Return `df` and a function that returns the values of the aggregates `counts`.

    Call the function after the only action on the returned frame. The counts need no job of their own.
    """
    if not counts:
        return df, dict
    observation = Observation()
    # numbered, because a user attribute may have any name
    columns = [count.alias(f"c{i}") for i, count in enumerate(counts.values())]
    # Spark does not compute a frame that it plans as empty, so nothing is observed there
    return df.observe(observation, *columns), lambda: {
        name: observation.get.get(f"c{i}", 0) for i, name in enumerate(counts)
    }


def checkpointed(df: DataFrame) -> tuple[DataFrame, int]:
    """Return `df`, computed once, and its number of rows. Runs one job.

    The checkpoint cuts the lineage: the plan of a loop grows until planning takes longer than running. Spark does not
    know the size of a checkpoint, so a small one gets a broadcast hint.
    """
    df, counts = observed(df, {"rows": F.count(F.lit(1))})
    checkpoint = df.localCheckpoint()
    rows = counts()["rows"]
    return (F.broadcast(checkpoint) if rows <= BROADCAST_ROWS else checkpoint), rows
