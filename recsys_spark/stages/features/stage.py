"""The features stage: writes histories, positives, training examples and item features for the folds of a pass.

Reads clean and split. The train stage reads the examples, score reads the histories, evaluate reads the positives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.columns import AS_OF, BACKTEST, PER_TARGET, RELEASE, VALID
from recsys_spark.parallel import run_parallel
from recsys_spark.pipeline.context import Context
from recsys_spark.stages.features import item_features
from recsys_spark.stages.features.histories import HISTORY_FOLDS, make_histories, make_positives
from recsys_spark.stages.features.shuffling import write_examples
from recsys_spark.storage import manifest, tables

NAME = "features"
PASSES = (BACKTEST, RELEASE)
EXAMPLES_AS_OF = {BACKTEST: VALID, RELEASE: RELEASE}
"""For each pass, the as_of of the histories that training examples are made from."""


def run(context: Context, pass_name: str) -> None:
    """Write the tables of this stage for a pass, unless that is done."""
    features = context.config.features
    settings = {
        **features.model_dump(mode="json"),
        # a temporal split predicts what comes after a cutoff, so items at the time of the target are unknown too
        "strictly_before": context.config.split.method == "temporal" and features.examples == PER_TARGET,
    }
    manifest.run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs=manifest.output_ids(context.layout, [("clean", None), ("split", pass_name)]),
        settings=settings,
        work=lambda folder: _work(context, pass_name, settings, folder),
        force=context.force,
    )


def _work(context: Context, pass_name: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    spark, layout = context.spark, context.layout
    folds = tables.read(spark, layout.table("split", pass_name, "folds"), "folds")
    users = tables.read(spark, layout.clean_table("users"), "users")
    items = tables.read(spark, layout.clean_table("items"), "items")
    with _without_coalescing(spark):
        tables.write(make_histories(folds, users, HISTORY_FOLDS[pass_name]), folder / "histories", "histories")
    histories = tables.read(spark, folder / "histories", "histories")
    histories = histories.where(F.col(AS_OF) == EXAMPLES_AS_OF[pass_name])
    example_settings = {name: value for name, value in settings.items() if name != "min_category_items"}
    tasks: list[Callable[[], Any]] = [
        lambda: write_examples(histories, folder / "examples", **example_settings),
        lambda: _write_item_features(spark, items, folder, settings["min_category_items"]),
        lambda: tables.write(item_features.make_item_counts(folds), folder / "item_counts", "item_counts"),
    ]
    if pass_name == BACKTEST:
        tasks.append(lambda: tables.write(make_positives(folds), folder / "positives", "positives"))
    counts, (n_features, n_dropped), *_ = run_parallel(*tasks)
    spark.catalog.clearCache()
    return {**counts, "features": n_features, "dropped_features": n_dropped}


@contextmanager
def _without_coalescing(spark: SparkSession) -> Iterator[None]:
    """Keep Spark from merging small partitions: each becomes a file, and the score stage reads files on all cores."""
    name = "spark.sql.adaptive.coalescePartitions.enabled"
    before = spark.conf.get(name)
    spark.conf.set(name, "false")
    try:
        yield
    finally:
        spark.conf.set(name, before)


def _write_item_features(spark: SparkSession, items: DataFrame, folder: Path, min_items: int) -> tuple[int, int]:
    """Write item_features and item_feature_names; return the numbers of features kept and dropped."""
    pairs = item_features.item_feature_pairs(items)
    rows, n_dropped = item_features.number_features(pairs, min_items)
    names = spark.createDataFrame(rows, "feature int, name string, count bigint").coalesce(1)
    tables.write(names, folder / "item_feature_names", "item_feature_names")
    tables.write(item_features.make_item_features(pairs, names), folder / "item_features", "item_features")
    return len(rows), n_dropped
