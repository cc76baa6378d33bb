"""The baselines stage: item models that need no network, fitted on the train fold of the pass."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    ALS,
    BACKTEST,
    CONTENT,
    FOLD,
    ITEM_KNN,
    ITEM_RIDGE,
    POPULARITY,
    RELEASE,
    SVD,
    TRAIN,
    USER_KNN,
)
from recsys_spark.config.baselines import Baselines
from recsys_spark.models import base
from recsys_spark.models.base import ItemModel
from recsys_spark.models.ridge import Objective
from recsys_spark.pipeline.job import Context
from recsys_spark.stages.baselines import als, content, item_knn, item_ridge, popularity, svd, user_knn
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Pairs, blocks_for, write_pairs
from recsys_spark.stages.baselines.warm_start import WarmStart, last_night
from recsys_spark.storage import manifest, tables

log = logging.getLogger(__name__)

NAME = "baselines"
PASSES = (BACKTEST, RELEASE)
_SCRATCH = ".scratch"


def run(context: Context, pass_name: str) -> None:
    """Write the item models of `baselines.models` for `pass_name`, unless they are there; in the release without those that were dropped."""
    clean = manifest.require(context.layout, "clean")
    split = manifest.require(context.layout, "split", pass_name)
    segmented = bool(context.config.clean.segment_by)
    config, wanted = context.config.baselines, context.fitted(pass_name)
    section = config.model_copy(update={"models": [name for name in config.models if name in wanted]})
    warm = _warm_start(context, section) if pass_name == RELEASE else None

    def table(name: str) -> DataFrame:
        return tables.read(context.spark, context.layout.clean_table(name), name)

    def work(folder: Path) -> dict[str, Any]:
        train, sizes = train_fold(context, pass_name)
        return fit_all(
            train,
            table("users") if segmented else None,
            table("items") if CONTENT in section.models else None,
            folder,
            section=section,
            warm=warm,
            **sizes,
        )

    inputs = {"clean": clean.output_id, f"{pass_name}/split": split.output_id}
    if warm:
        inputs["als_start"] = f"{warm.run_id} {warm.output_id}"

    manifest.run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs=inputs,
        settings={**section.model_dump(mode="json"), "segmented": segmented},
        work=work,
        force=context.force,
    )


def train_fold(context: Context, pass_name: str) -> tuple[DataFrame, dict[str, Any]]:
    """The train fold, and n_users, n_items and n_pairs of it."""
    clean, split = manifest.require(context.layout, "clean"), manifest.require(context.layout, "split", pass_name)
    folds = tables.read(context.spark, context.layout.table("split", pass_name, "folds"), "folds")
    sizes = {name: clean.counts[name] for name in ("n_users", "n_items")}
    return folds.where(F.col(FOLD) == TRAIN), sizes | {"n_pairs": split.counts[TRAIN]}


def fit_all(
    train: DataFrame,
    users: DataFrame | None,
    items: DataFrame | None,
    folder: Path,
    *,
    section: Baselines,
    n_users: int,
    n_items: int,
    n_pairs: int,
    warm: WarmStart | None = None,
) -> dict[str, Any]:
    """Fit and save each model of `section`; returns the manifest's counts. `users` are needed for segments, `items` for content."""
    counts: dict[str, Any] = {"seconds": {}}
    with _timed(counts, POPULARITY):
        model = popularity.fit(train, users, n_items=n_items, half_life_days=section.popularity.half_life_days)
        base.save(folder / POPULARITY, model)
        counts["segments"] = len(model.parameters["segments"])
    with _scratch(folder) as scratch:
        if set(section.models) & set(OF_PAIRS):
            with _timed(counts, "blocks"):
                sizes = {"n_users": n_users, "n_items": n_items, "n_pairs": n_pairs}
                desk = open_desk(train, scratch, section=section, warm=warm, **sizes)
            pairs = desk.pairs
            counts |= {"pairs": pairs.pairs, "users": pairs.active[USERS], "items": pairs.active[ITEMS]}
        for name in section.models:
            if name in OF_PAIRS:
                with _timed(counts, name):
                    model, told = OF_PAIRS[name](desk, scratch / name)
                    base.save(folder / name, model)
                    counts |= told
        if items is not None:
            with _timed(counts, CONTENT):
                model, told = _fit_content(items, scratch / CONTENT, section, n_items)
                base.save(folder / CONTENT, model)
                counts |= told
    return counts


def _warm_start(context: Context, section: Baselines) -> WarmStart | None:
    if ALS not in section.models or section.als.warm_iterations is None:
        return None
    return last_night(context.layout, context.cutoff.isoformat(), section.als.factors)


Fitted = tuple[ItemModel, dict[str, Any]]
"""A model, and what the manifest counts of it."""


@dataclass(frozen=True)
class Desk:
    """What the models of pairs are fitted with."""

    spark: SparkContext
    pairs: Pairs
    section: Baselines
    warm: WarmStart | None


def open_desk(
    train: DataFrame,
    folder: Path,
    *,
    section: Baselines,
    n_users: int,
    n_items: int,
    n_pairs: int,
    warm: WarmStart | None = None,
) -> Desk:
    """Write the pairs of `train` as blocks under `folder`, for any number of fits."""
    spark = train.sparkSession.sparkContext
    blocks = blocks_for(n_pairs, cores=spark.defaultParallelism, most=section.tasks)
    pairs = write_pairs(train, folder / "pairs", blocks=blocks, n_users=n_users, n_items=n_items)
    return Desk(spark, pairs, section, warm)


def _fit_als(desk: Desk, scratch: Path) -> Fitted:
    s, warm = desk.section.als, desk.warm
    objective = Objective(s.confidence, s.unobserved_weight, s.regularization, s.regularization_exponent)
    sizes: dict[str, Any] = {"factors": s.factors, "iterations": s.iterations, "seed": s.seed}
    if warm and s.warm_iterations:
        log.info("als: starts from the vectors of run %s", warm.run_id)
        sizes |= {"iterations": s.warm_iterations, "start": warm.items()}
    model, objectives = als.fit(desk.spark, desk.pairs, scratch, objective=objective, **sizes)
    return model, {"als_objective": objectives}


def _fit_item_knn(desk: Desk, scratch: Path) -> Fitted:
    options = desk.section.item_knn.model_dump()
    neighbours = options.pop("neighbours")
    similarity = item_knn.Similarity(**options)
    model = item_knn.fit(desk.spark, desk.pairs, scratch, neighbours=neighbours, similarity=similarity)
    return model, {"neighbours": len(model.arrays["neighbours"])}


def _fit_item_ridge(desk: Desk, scratch: Path) -> Fitted:
    options = desk.section.item_ridge.model_dump()
    neighbours = options.pop("neighbours")
    ridge = item_ridge.Ridge(**options)
    model = item_ridge.fit(desk.spark, desk.pairs, scratch, neighbours=neighbours, ridge=ridge)
    return model, {"ridge_weights": len(model.arrays["neighbours"])}


def _fit_user_knn(desk: Desk, scratch: Path) -> Fitted:
    options = desk.section.user_knn.model_dump()
    sizes = {name: options.pop(name) for name in ("neighbours", "max_users")}
    model = user_knn.fit(desk.pairs, scratch, similarity=user_knn.Similarity(**options), **sizes)
    return model, {"reference_users": len(model.arrays["masses"])}


def _fit_svd(desk: Desk, scratch: Path) -> Fitted:
    model = svd.fit(desk.spark, desk.pairs, scratch, **desk.section.svd.model_dump())
    return model, {"svd_factors": len(model.arrays["spectrum"])}


OF_PAIRS = {
    ALS: _fit_als,
    ITEM_KNN: _fit_item_knn,
    ITEM_RIDGE: _fit_item_ridge,
    USER_KNN: _fit_user_knn,
    SVD: _fit_svd,
}
"""The models that are fitted on the pairs alone: each fit takes a desk and a folder that is not there yet for its own files."""


def _fit_content(items: DataFrame, scratch: Path, section: Baselines, n_items: int) -> Fitted:
    s = section.content
    sizes: dict[str, Any] = {"n_items": n_items, "neighbours": s.neighbours, "tasks": section.tasks}
    return content.fit(items, scratch, max_share=s.max_term_share, **sizes)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for the blocks, beside the models: the one place that every node is known to see."""
    scratch = folder / _SCRATCH
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _timed(counts: dict[str, Any], name: str) -> Iterator[None]:
    clock = time.monotonic()
    yield
    counts["seconds"][name] = round(time.monotonic() - clock, 1)
    log.info("baselines: %s done in %.1f s", name, counts["seconds"][name])
