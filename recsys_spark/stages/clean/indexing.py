"""Dense ids, carried from night to night.

An index is a folder of segments, `segment=000001`, `segment=000002`, …: one for each night that brought new ids, never changed afterwards. New ids are
sorted by their external id and numbered on from the largest number given. So an id keeps its number for ever, the same nights give the
same numbers, and a killed run leaves nothing but a hidden folder.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.errors import ConcurrentJob
from recsys_spark.spark.dense_ids import with_dense_index
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import tables

log = logging.getLogger(__name__)

FIRST = {"user_index": 0, "item_index": PADDING_ITEM + 1}


def read_index(spark: SparkSession, folder: Path, table: str) -> DataFrame:
    """All ids ever given: the columns of the contract `table` (user_index or item_index)."""
    # the segment's number is in the folders' names, so Spark adds it as a column
    return tables.read(spark, folder, table).select(*contracts.load(table).columns)


def extend(
    spark: SparkSession, folder: Path, table: str, ids: DataFrame, run_id: str, *, at_most: int | None = None
) -> tuple[int, int]:
    """Give numbers to those of `ids` (distinct external ids) that have none; returns (new ids, 1 + the largest number ever given).

    `at_most`: the number of `ids`, if it is known. Adds at most one segment, by one rename. Raises `ConcurrentJob` when another job has added a segment meanwhile.
    """
    external, dense = contracts.load(table).columns
    segments = sorted(folder.glob("segment=*"))
    start = FIRST[table]
    new = ids.select(external)
    if segments:
        known = read_index(spark, folder, table)
        new = new.join(known, external, "left_anti")
        start = known.agg(F.max(dense)).first()[0] + 1
    kind = contracts.load(table).field(dense).spark_type
    numbered = with_dense_index(new, [external], dense, start, at_most=at_most)
    numbered = numbered.withColumn(dense, F.col(dense).cast(kind))
    # named by the run, whose lock keeps every other job of its name away
    draft = folder / f".new-{run_id}"
    shutil.rmtree(draft, ignore_errors=True)
    n_new = tables.write(numbered, draft, table)
    if n_new:
        _commit(draft, folder / f"segment={len(segments) + 1:06d}")
    else:
        shutil.rmtree(draft)
    log.info("clean: %s: %s new ids", table, f"{n_new:,}")
    return n_new, start + n_new


def _commit(draft: Path, segment: Path) -> None:
    try:
        # a rename onto a folder with files in it fails, so two jobs cannot both add the next segment
        os.rename(draft, segment)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ConcurrentJob(
            f"another job has just added {segment}; run this one again, and only one clean job at a time under a root"
        ) from error
