"""What training needs to know of items: counts in the training pairs and content features."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import CATEGORIES, FOLD, ITEM_IDX, TRAIN

FEATURE = "feature"
NAME = "name"
COUNT = "count"


def make_item_counts(folds: DataFrame) -> DataFrame:
    """The `item_counts` table: training pairs of each item that has any."""
    return folds.where(F.col(FOLD) == TRAIN).groupBy(ITEM_IDX).agg(F.count(F.lit(1)).alias(COUNT))


def name_features(items: DataFrame) -> DataFrame:
    """(item_idx, name) for each content feature of each item, each pair once."""
    category = F.explode(F.array_distinct(CATEGORIES)).alias("category")
    return items.select(ITEM_IDX, category).select(ITEM_IDX, F.concat(F.lit("category="), "category").alias(NAME))


def number_features(named: DataFrame, min_items: int) -> tuple[list[tuple[int, str, int]], int]:
    """Rows of `item_feature_names` (feature, name, count), numbered by name, and how many rarer features were dropped.

    Counts are collected: there are as many as there are categories, not items or users.
    """
    counts = {row[NAME]: row["n"] for row in named.groupBy(NAME).agg(F.count(F.lit(1)).alias("n")).collect()}
    kept = sorted(name for name, n in counts.items() if n >= min_items)
    return [(feature, name, counts[name]) for feature, name in enumerate(kept)], len(counts) - len(kept)


def make_item_features(named: DataFrame, names: DataFrame) -> DataFrame:
    """The `item_features` table: feature ids of the items that have any, ascending."""
    features = F.sort_array(F.collect_list(FEATURE)).alias("features")
    return named.join(F.broadcast(names.select(NAME, FEATURE)), NAME).groupBy(ITEM_IDX).agg(features)
