"""Assigns dense ids and keeps them from night to night.

An index is a folder of segments, `segment=000001`, `segment=000002`, … Each night with new ids adds one segment, which
never changes afterwards. New ids are sorted by their external id and numbered after the largest existing number. So an
id keeps its number, the same nights give the same numbers, and a killed run leaves only a hidden folder.
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
    """Return all ids of the index `table` (user_index or item_index)."""
    # Spark adds the segment number as a column, because the folders are named like partitions
    return tables.read(spark, folder, table).select(*contracts.load(table).columns)


def extend(
    spark: SparkSession, folder: Path, table: str, ids: DataFrame, run_id: str, *, at_most: int | None = None
) -> tuple[int, int]:
    """Number the new external ids in `ids` (distinct); return (number of new ids, 1 + the largest number).

    `at_most` is the number of `ids`, if known. Adds at most one segment, by one rename. Raises `ConcurrentJob` when
    another job has added a segment in the meantime.
    """
    external, dense = contracts.load(table).columns
    segments = sorted(folder.glob("segment=*"))
    start = FIRST[table]
    new = ids.select(external)
    if segments:
        existing = read_index(spark, folder, table)
        new = new.join(existing, external, "left_anti")
        start = existing.agg(F.max(dense)).first()[0] + 1
    dense_type = contracts.load(table).field(dense).spark_type
    numbered = with_dense_index(new, [external], dense, start, at_most=at_most)
    numbered = numbered.withColumn(dense, F.col(dense).cast(dense_type))
    # the run's lock lets no other job of this run write the draft
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
        # a rename to a folder that holds files fails, so two jobs cannot both add the next segment
        os.rename(draft, segment)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ConcurrentJob(
            f"{segment} was added by another job. Run this job again, and run only one clean job at a time in a root"
        ) from error
