"""Finds exact duplicates: rows with equal values in every mapped column."""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, REASON
from recsys_spark.stages.clean.checkpointed import checkpointed
from recsys_spark.stages.clean.parse import FIELDS
from recsys_spark.stages.clean.read import FILE

log = logging.getLogger(__name__)

_HASH = "__hash"


def mark_duplicates(rows: DataFrame) -> DataFrame:
    """Return `rows` with reason `duplicate` on valid rows that repeat another. The first row by file name stays valid.

    The first job finds hashes that occur more than once, the second one compares the rows with such a hash. Without
    duplicates the result is `rows` itself.
    """
    hashed = rows.withColumn(_HASH, F.when(F.col(REASON).isNull(), F.xxhash64(*FIELDS)))
    counts = hashed.where(F.col(_HASH).isNotNull()).groupBy(_HASH).count()
    repeated, n_repeated = checkpointed(counts.where("count > 1").select(_HASH))
    if not n_repeated:
        return rows
    unique = hashed.join(repeated, _HASH, "left_anti")
    # the texts order the rows of one file that have equal values in different spellings ("5", "5.0")
    texts = [name for name in rows.columns if name.startswith("raw_")]
    number = F.row_number().over(Window.partitionBy(*FIELDS).orderBy(FILE, *texts))
    is_duplicate = F.col("__number") > 1
    suspects = hashed.join(repeated, _HASH, "left_semi").withColumn("__number", number)
    marked = suspects.withColumns(
        {
            REASON: F.when(is_duplicate, F.lit("duplicate")),
            DETAIL: F.when(is_duplicate, F.lit("agrees with another row in every mapped column")),
        }
    )
    log.info("clean: %s rows have exact duplicates", f"{n_repeated:,}")
    return unique.drop(_HASH).unionByName(marked.drop(_HASH, "__number").localCheckpoint())
