"""The baselines stage: fits the item models that need no network on the train fold of a pass.

The registry names the function that fits a model. The stage gives it a `FitContext` and saves the model it returns.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from recsys_spark import registry
from recsys_spark.columns import ALS, BACKTEST, FOLD, RELEASE, TRAIN
from recsys_spark.models import base
from recsys_spark.pipeline.context import Context
from recsys_spark.registry import ModelEntry
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, parts_for, write_pairs
from recsys_spark.stages.baselines.warm_start import WarmStart, last_night
from recsys_spark.storage import manifest, tables

log = logging.getLogger(__name__)

NAME = "baselines"
PASSES = (BACKTEST, RELEASE)
_SCRATCH = ".scratch"


def run(context: Context, pass_name: str) -> None:
    """Write the item models of `baselines.models` for a pass, unless that is done. The release omits dropped models."""
    config, fitted = context.config.baselines, context.fitted(pass_name)
    section = config.model_copy(update={"models": [name for name in config.models if name in fitted]})
    entries = [registry.entry(name) for name in section.models]
    inputs = manifest.output_ids(context.layout, [("clean", None), ("split", pass_name)])
    warm = _warm_start(context, section.models) if pass_name == RELEASE else None
    if warm:
        inputs["als_start"] = f"{warm.run_id} {warm.output_id}"

    def work(folder: Path) -> dict[str, Any]:
        fit_context = read_inputs(context, pass_name, entries)
        return _fit_all(context, replace(fit_context, warm_start=warm), entries, folder)

    manifest.run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs=inputs,
        settings={**section.model_dump(mode="json"), "segmented": bool(context.config.clean.segment_by)},
        work=work,
        force=context.force,
    )


def read_inputs(context: Context, pass_name: str, entries: Sequence[ModelEntry] = ()) -> FitContext:
    """Return the data of a pass that the models of `entries` read, without the pairs."""
    layout, spark = context.layout, context.spark
    clean, split = manifest.require(layout, "clean"), manifest.require(layout, "split", pass_name)
    folds = tables.read(spark, layout.table("split", pass_name, "folds"), "folds")
    segmented, on_items = bool(context.config.clean.segment_by), any(entry.fits_on == "items" for entry in entries)
    return FitContext(
        spark=spark.sparkContext,
        events=folds.where(F.col(FOLD) == TRAIN),
        n_users=clean.counts["n_users"],
        n_items=clean.counts["n_items"],
        n_pairs=split.counts[TRAIN],
        tasks=context.config.baselines.tasks,
        users=tables.read(spark, layout.clean_table("users"), "users") if segmented else None,
        items=tables.read(spark, layout.clean_table("items"), "items") if on_items else None,
    )


def with_pairs(fit_context: FitContext, folder: Path) -> FitContext:
    """Write the pairs of the train fold to `folder`, for any number of fits."""
    f = fit_context
    parts = parts_for(f.n_pairs, cores=f.spark.defaultParallelism, maximum=f.tasks)
    return replace(f, pairs=write_pairs(f.events, folder, parts=parts, n_users=f.n_users, n_items=f.n_items))


def _fit_all(context: Context, fit_context: FitContext, entries: Sequence[ModelEntry], folder: Path) -> dict[str, Any]:
    """Fit and save each model. Returns the counts of the manifest."""
    counts: dict[str, Any] = {"seconds": {}}
    scratch = folder / _SCRATCH  # every node sees the folder of the models
    try:
        if any(entry.fits_on == "pairs" for entry in entries):
            with _timed(counts, "pairs"):
                fit_context = with_pairs(fit_context, scratch / "pairs")
            pairs = fit_context.pairs
            counts |= {"pairs": pairs.count, "users": pairs.active[USERS], "items": pairs.active[ITEMS]}
        for entry in entries:
            with _timed(counts, entry.name):
                settings = entry.settings(context.config)
                model, model_counts = entry.fit_function()(
                    replace(fit_context, settings=settings), scratch / entry.name
                )
                base.save(folder / entry.name, model)
                counts |= model_counts
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return counts


def _warm_start(context: Context, models: Sequence[str]) -> WarmStart | None:
    settings = context.config.baselines.als
    if ALS not in models or settings.warm_iterations is None:
        return None
    return last_night(context.layout, context.cutoff.isoformat(), settings.factors)


@contextmanager
def _timed(counts: dict[str, Any], name: str) -> Iterator[None]:
    clock = time.monotonic()
    yield
    counts["seconds"][name] = round(time.monotonic() - clock, 1)
    log.info("baselines: %s done in %.1f s", name, counts["seconds"][name])
