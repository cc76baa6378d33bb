"""The features stage: histories, positives, training examples and what is known of items, for the pass's folds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.columns import AS_OF, BACKTEST, ITEM_IDX, PER_TARGET, PER_USER, RELEASE, VALID
from recsys_spark.parallel import together
from recsys_spark.pipeline.job import Context
from recsys_spark.stages.features import content, shuffling
from recsys_spark.stages.features.histories import (
    BACKTEST_MOMENTS,
    RELEASE_MOMENTS,
    make_histories,
    make_positives,
)
from recsys_spark.storage import manifest, tables

NAME = "features"
PASSES = (BACKTEST, RELEASE)


def run(context: Context, pass_name: str) -> None:
    """Write the tables of this stage for `pass_name`, unless they are there."""
    inputs = {
        f"{BACKTEST}/clean": manifest.require(context.layout, "clean", pass_name).output_id,
        f"{pass_name}/split": manifest.require(context.layout, "split", pass_name).output_id,
    }
    examples = context.config.features.examples
    settings = {
        **context.config.features.model_dump(mode="json"),
        # a temporal split asks for what comes later, and later nothing of that moment is known
        "earlier": context.config.split.method == "temporal" and examples == PER_TARGET,
    }

    def work(folder: Path) -> dict[str, Any]:
        spark, layout = context.spark, context.layout
        folds = tables.read(spark, layout.table("split", pass_name, "folds"), "folds")
        users = tables.read(spark, layout.table("clean", pass_name, "users"), "users")
        items = tables.read(spark, layout.table("clean", pass_name, "items"), "items")
        moments = BACKTEST_MOMENTS if pass_name == BACKTEST else RELEASE_MOMENTS
        with _partitions_kept(spark):
            tables.write(make_histories(folds, users, moments), folder / "histories", "histories")
        histories = tables.read(spark, folder / "histories", "histories").where(
            F.col(AS_OF) == (VALID if pass_name == BACKTEST else RELEASE)
        )
        of_examples = {k: v for k, v in settings.items() if k != "min_category_items"}
        works = [
            lambda: write_examples(histories, folder / "examples", **of_examples),
            lambda: _write_content(spark, items, folder, settings["min_category_items"]),
            lambda: tables.write(content.make_item_counts(folds), folder / "item_counts", "item_counts"),
        ]
        if pass_name == BACKTEST:
            works.append(lambda: tables.write(make_positives(folds), folder / "positives", "positives"))
        counts, (features, dropped), *_ = together(*works)
        spark.catalog.clearCache()
        return {**counts, "features": features, "dropped_features": dropped}

    manifest.run_stage(
        context.layout, NAME, pass_name, inputs=inputs, settings=settings, work=work, force=context.force
    )


@contextmanager
def _partitions_kept(spark: SparkSession) -> Iterator[None]:
    """Without Spark's joining of small partitions, so that all of them become files: the score stage reads those as they lie, on all cores."""
    name = "spark.sql.adaptive.coalescePartitions.enabled"
    before = spark.conf.get(name)
    spark.conf.set(name, "false")
    try:
        yield
    finally:
        spark.conf.set(name, before)


def write_examples(
    histories: DataFrame,
    folder: Path,
    *,
    history_length: int,
    examples: str,
    max_examples_per_user: int,
    row_groups: int,
    earlier: bool,
    seed: int,
) -> dict[str, int]:
    """Write the `examples` table of one moment's histories in files of one equal row group each: `row_groups`, or as many times that as keeps them small
    enough; returns the counts.

    A user as an example is their newest target, with as much as the window holds before it.
    """
    if examples == PER_USER:
        max_examples_per_user = 1
    sums = histories.agg(
        F.sum(shuffling.example_count(max_examples_per_user, earlier).cast("bigint")).alias("examples"),
        F.count_if(F.size(ITEM_IDX) > 0).alias("users"),
    ).first()
    total = int(sums["examples"] or 0)
    shards, each = row_groups, shuffling.groups_of_a_shard(total, shards=row_groups, length=history_length)
    row_groups = shards * each
    size = math.ceil(total / row_groups)
    if total:
        placed = shuffling.place_examples(
            histories,
            total=total,
            shards=shards,
            size=size * each,
            max_examples_per_user=max_examples_per_user,
            earlier=earlier,
            seed=seed,
        )
        built = shuffling.build_examples(
            placed, histories, shards=shards, length=history_length, earlier=earlier, seed=seed
        )
        tables.write(built, folder, "examples", max_rows_per_file=size, quick_to_read=True)
        shuffling.check_row_groups(folder, row_groups, size)
    return {
        "examples": size * row_groups,
        "padded_examples": size * row_groups - total,
        "row_groups": row_groups,
        "users_with_history": int(sums["users"]),
    }


def _write_content(spark: SparkSession, items: DataFrame, folder: Path, min_items: int) -> tuple[int, int]:
    """Write item_features and item_feature_names; returns the numbers of features kept and dropped."""
    named = content.name_features(items)
    rows, dropped = content.number_features(named, min_items)
    names = spark.createDataFrame(rows, "feature int, name string, count bigint").coalesce(1)
    tables.write(names, folder / "item_feature_names", "item_feature_names")
    tables.write(content.make_item_features(named, names), folder / "item_features", "item_features")
    return len(rows), dropped
