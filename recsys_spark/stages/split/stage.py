"""The split stage: clean interactions to folds. The backtest holds out valid and test; the release trains on everything."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    BACKTEST,
    EVENT_TS,
    FOLD,
    ITEM_IDX,
    RELEASE,
    TEST,
    TRAIN,
    USER_IDX,
    VALID,
    WEIGHT,
)
from recsys_spark.errors import ContractViolation
from recsys_spark.parallel import run_parallel
from recsys_spark.pipeline.context import Context
from recsys_spark.stages.split import cold, last_n, leakage, random, temporal
from recsys_spark.storage import tables
from recsys_spark.storage.manifest import require, run_stage

NAME = "split"
PASSES = (BACKTEST, RELEASE)

_SETTINGS = {
    "last_n": ("valid_n", "test_n", "min_train"),
    "temporal": ("valid_days", "test_days"),
    "random": ("valid_share", "test_share", "min_train", "seed"),
}
"""The settings each method depends on."""
_SHARES = ("cold_user_share", "cold_item_share")


def run(context: Context, pass_name: str) -> None:
    """Write the table `folds` of a pass and check its laws."""
    chosen = _chosen(context.config.split.model_dump(mode="json")) if pass_name == BACKTEST else {}
    run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs={"clean": require(context.layout, "clean").output_id},
        settings=chosen,
        work=lambda folder: _work(context, chosen, folder),
        force=context.force,
    )


def _chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that the backtest's folds depend on."""
    shares = [name for name in _SHARES if settings[name]]
    names = ["method", *_SETTINGS[settings["method"]], *shares, *(["seed"] if shares else [])]
    return {name: settings[name] for name in names}


def _work(context: Context, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`settings` is empty in the release pass."""
    table = context.layout.clean_table("interactions")
    interactions = tables.read(context.spark, table, "interactions").select(USER_IDX, ITEM_IDX, EVENT_TS, WEIGHT)
    method = settings.get("method")
    cuts = _cuts(interactions, settings) if method == "temporal" else None
    tables.write(_folds(interactions, settings, cuts), folder / "folds", "folds")
    folds = tables.read(context.spark, folder / "folds", "folds")
    whole = [lambda: leakage.audit_whole(folds)] if settings.keys() & set(_SHARES) else []
    by_user = method == "last_n"
    *_, counts = run_parallel(*whole, lambda: leakage.audit(interactions, folds, cuts=cuts, by_user=by_user))
    if settings:
        _check_held_out(counts, settings)
    if cuts:
        counts |= {"valid_begins": cuts[0].isoformat(), "test_begins": cuts[1].isoformat()}
    return {"method": method or "all train", **counts}


def _folds(interactions: DataFrame, settings: dict[str, Any], cuts: leakage.Cuts) -> DataFrame:
    shares = [settings.get(name, 0.0) for name in _SHARES]
    if any(shares):
        interactions, whole = cold.part(interactions, user_share=shares[0], item_share=shares[1], seed=settings["seed"])
        return _of_method(interactions, settings, cuts).unionByName(whole)
    return _of_method(interactions, settings, cuts)


def _of_method(interactions: DataFrame, settings: dict[str, Any], cuts: leakage.Cuts) -> DataFrame:
    if cuts:
        return temporal.split(interactions, valid_begins=cuts[0], test_begins=cuts[1])
    if settings:
        method = settings["method"]
        values = {name: settings[name] for name in _SETTINGS[method]}
        return {"last_n": last_n.split, "random": random.split}[method](interactions, **values)
    pairs = interactions.groupBy(USER_IDX, ITEM_IDX).agg(
        F.min(EVENT_TS).alias(EVENT_TS), F.sum(WEIGHT).cast("float").alias(WEIGHT)
    )
    return pairs.withColumn(FOLD, F.lit(TRAIN))


def _cuts(interactions: DataFrame, settings: dict[str, Any]) -> leakage.Cuts:
    newest: date | None = interactions.agg(F.to_date(F.max(EVENT_TS))).first()[0]
    if newest is None:
        raise ContractViolation("split.method is temporal, and no interaction has a time; use random")
    return temporal.cuts(newest, valid_days=settings["valid_days"], test_days=settings["test_days"])


def _check_held_out(counts: dict[str, Any], settings: dict[str, Any]) -> None:
    empty = [name for name in (TRAIN, VALID, TEST) if not counts[name]]
    if empty:
        given = ", ".join(f"split.{name}={value}" for name, value in settings.items())
        raise ContractViolation(
            f"split: nothing is left for {' and '.join(empty)} with {given}; change these, or give a longer log"
        )
