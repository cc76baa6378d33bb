"""The split stage: divides the interactions into folds.

The backtest holds out valid and test, and optionally cold users and items. The release trains on everything. Reads the
clean stage; baselines, features and evaluate read the folds.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import BACKTEST, EVENT_TS, FOLD, ITEM_IDX, RELEASE, TEST, TRAIN, USER_IDX, VALID, WEIGHT
from recsys_spark.errors import ContractViolation
from recsys_spark.parallel import run_parallel
from recsys_spark.pipeline.context import Context
from recsys_spark.stages.split import cold, last_n, leakage, random, temporal
from recsys_spark.stages.split.merge import merge_events
from recsys_spark.storage import tables
from recsys_spark.storage.manifest import require, run_stage

NAME = "split"
PASSES = (BACKTEST, RELEASE)

_METHOD_SETTINGS = {
    "last_n": ("valid_n", "test_n", "min_train"),
    "temporal": ("valid_days", "test_days"),
    "random": ("valid_share", "test_share", "min_train", "seed"),
}
"""The settings that each method uses."""
_COLD_SHARES = ("cold_user_share", "cold_item_share")


def run(context: Context, pass_name: str) -> None:
    """Write the table `folds` of a pass and check its invariants, unless that is done."""
    settings = _used_settings(context.config.split.model_dump(mode="json")) if pass_name == BACKTEST else {}
    run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs={"clean": require(context.layout, "clean").output_id},
        settings=settings,
        work=lambda folder: _work(context, settings, folder),
        force=context.force,
    )


def _used_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the folds of the backtest depend on."""
    shares = [name for name in _COLD_SHARES if settings[name]]
    names = ["method", *_METHOD_SETTINGS[settings["method"]], *shares, *(["seed"] if shares else [])]
    return {name: settings[name] for name in names}


def _work(context: Context, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write and check the folds; return the counts. `settings` is empty in the release pass."""
    table = context.layout.clean_table("interactions")
    interactions = tables.read(context.spark, table, "interactions").select(USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT)
    method = settings.get("method")
    boundaries = _boundaries(interactions, settings) if method == "temporal" else None
    tables.write(_folds(interactions, settings, boundaries), folder / "folds", "folds")
    folds = tables.read(context.spark, folder / "folds", "folds")
    per_user = method == "last_n"
    checks = [lambda: leakage.check_folds(interactions, folds, boundaries=boundaries, per_user=per_user)]
    if settings.keys() & set(_COLD_SHARES):
        checks.append(lambda: leakage.check_cold_folds(folds))
    counts, *_ = run_parallel(*checks)
    if settings:
        _check_not_empty(counts, settings)
    if boundaries:
        counts |= {"valid_begins": boundaries[0].isoformat(), "test_begins": boundaries[1].isoformat()}
    return {"method": method or "all train", **counts}


def _folds(interactions: DataFrame, settings: dict[str, Any], boundaries: leakage.Boundaries) -> DataFrame:
    user_share, item_share = (settings.get(name, 0.0) for name in _COLD_SHARES)
    if not user_share and not item_share:
        return _split(interactions, settings, boundaries)
    warm, cold_folds = cold.hold_out(interactions, user_share=user_share, item_share=item_share, seed=settings["seed"])
    return _split(warm, settings, boundaries).unionByName(cold_folds)


def _split(interactions: DataFrame, settings: dict[str, Any], boundaries: leakage.Boundaries) -> DataFrame:
    if boundaries:
        return temporal.split(interactions, valid_begins=boundaries[0], test_begins=boundaries[1])
    if settings:
        method = settings["method"]
        values = {name: settings[name] for name in _METHOD_SETTINGS[method]}
        return {"last_n": last_n.split, "random": random.split}[method](interactions, **values)
    return merge_events(interactions).withColumn(FOLD, F.lit(TRAIN))


def _boundaries(interactions: DataFrame, settings: dict[str, Any]) -> leakage.Boundaries:
    newest: date | None = interactions.agg(F.to_date(F.max(EVENT_TS))).first()[0]
    if newest is None:
        raise ContractViolation("split.method is temporal, but no interaction has a time. Set it to random")
    return temporal.boundaries(newest, valid_days=settings["valid_days"], test_days=settings["test_days"])


def _check_not_empty(counts: dict[str, Any], settings: dict[str, Any]) -> None:
    empty = [name for name in (TRAIN, VALID, TEST) if not counts[name]]
    if empty:
        values = ", ".join(f"split.{name}={value}" for name, value in settings.items())
        raise ContractViolation(
            f"split: no interactions are left for {' and '.join(empty)} with {values}. "
            "Change these settings or use a longer log"
        )
