"""Exact duplicates: rows that agree in every mapped column. One is kept, the one from the first file by name."""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, REASON
from recsys_spark.stages.clean.checkpointed import pinned
from recsys_spark.stages.clean.parse import FIELDS
from recsys_spark.stages.clean.read import FILE

log = logging.getLogger(__name__)

_HASH = "__hash"


def mark_duplicates(rows: DataFrame) -> DataFrame:
    """`rows` with reason `duplicate` for the well-formed ones that repeat another.

    Runs a job that looks for hashes met more than once; only their rows are sorted and compared, in a second one. A log without duplicates
    comes back as the very frame that went in.
    """
    hashed = rows.withColumn(_HASH, F.when(F.col(REASON).isNull(), F.xxhash64(*FIELDS)))
    counts = hashed.where(F.col(_HASH).isNotNull()).groupBy(_HASH).count()
    twice, n_twice = pinned(counts.where("count > 1").select(_HASH))
    if not n_twice:
        return rows
    alone = hashed.join(twice, _HASH, "left_anti")
    suspects = hashed.join(twice, _HASH, "left_semi")
    # the rest of the order is for rows of one file that differ only in how they are written ("5", "5.0")
    texts = [name for name in rows.columns if name.startswith("raw_")]
    number = F.row_number().over(Window.partitionBy(*FIELDS).orderBy(FILE, *texts))
    marked = suspects.withColumn("__number", number).withColumns(
        {
            REASON: F.when(F.col("__number") > 1, F.lit("duplicate")),
            DETAIL: F.when(F.col("__number") > 1, F.lit("agrees with another row in every mapped column")),
        }
    )
    log.info("clean: %s rows have exact duplicates", f"{n_twice:,}")
    return alone.drop(_HASH).unionByName(marked.drop(_HASH, "__number").localCheckpoint())
