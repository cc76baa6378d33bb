"""Makes the item tables for training: counts of training pairs, and content features."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import CATEGORIES, FOLD, ITEM_IDX, TRAIN

FEATURE = "feature"
NAME = "name"
COUNT = "count"


def make_item_counts(folds: DataFrame) -> DataFrame:
    """Return the table `item_counts`: the number of training pairs of each item that has any."""
    return folds.where(F.col(FOLD) == TRAIN).groupBy(ITEM_IDX).agg(F.count(F.lit(1)).alias(COUNT))


def item_feature_pairs(items: DataFrame) -> DataFrame:
    """Return the distinct (item_idx, name) of the content features of all items."""
    category = F.explode(F.array_distinct(CATEGORIES)).alias("category")
    return items.select(ITEM_IDX, category).select(ITEM_IDX, F.concat(F.lit("category="), "category").alias(NAME))


def number_features(pairs: DataFrame, min_items: int) -> tuple[list[tuple[int, str, int]], int]:
    """Return the rows of `item_feature_names` (feature, name, count), sorted by name, and the number of rarer features.

    The counts fit in memory, because there is one for each category, not for each item or user.
    """
    counts = {row[NAME]: row["n"] for row in pairs.groupBy(NAME).agg(F.count(F.lit(1)).alias("n")).collect()}
    kept = sorted(name for name, n in counts.items() if n >= min_items)
    return [(feature, name, counts[name]) for feature, name in enumerate(kept)], len(counts) - len(kept)


def make_item_features(pairs: DataFrame, names: DataFrame) -> DataFrame:
    """Return the table `item_features`: the ascending feature ids of each item that has any."""
    features = F.sort_array(F.collect_list(FEATURE)).alias("features")
    return pairs.join(F.broadcast(names.select(NAME, FEATURE)), NAME).groupBy(ITEM_IDX).agg(features)
