"""The evaluate stage. Backtest: how good every model is on the test fold. Release: the gates' verdict and the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.parallel import together
from recsys_spark.pipeline.job import Context
from recsys_spark.report import render
from recsys_spark.report.run_facts import EXAMPLES_FILE, METRICS_FILE, VERDICT_FILE, RunFacts
from recsys_spark.stages.evaluate import backtest, cold_start, diversity_tradeoff, gates, release
from recsys_spark.stages.evaluate.backtest import Catalogue
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

NAME = "evaluate"
PASSES = (c.BACKTEST, c.RELEASE)

_BACKTEST_INPUTS = (("clean", c.BACKTEST), ("features", c.BACKTEST), ("score", c.BACKTEST))
_RELEASE_INPUTS = (*_BACKTEST_INPUTS, (NAME, c.BACKTEST), ("features", c.RELEASE), ("score", c.RELEASE))
_AFTER = {NAME, "publish"}
_RELEASE_ONLY = {"gates", "example_users"}


def run(context: Context, pass_name: str) -> None:
    if pass_name == c.BACKTEST:
        _run_backtest(context)
    else:
        _run_release(context)


def _run_backtest(context: Context) -> None:
    found = {stage: manifest.require(context.layout, stage, of) for stage, of in _BACKTEST_INPUTS}
    settings = {
        "evaluate": context.config.evaluate.model_dump(mode="json", exclude=_RELEASE_ONLY),
        "models": context.config.models,
        "baselines": list(context.config.baselines.models),
    }

    def work(folder: Path) -> Mapping[str, Any]:
        metrics = _measure(context, folder, known_users=int(found["features"].counts["users_with_history"]))
        manifest.write_json(folder / METRICS_FILE, metrics)
        k = metrics["gate_k"]
        ndcg = {model: by_k[str(k)]["ndcg"]["mean"] for model, by_k in metrics["accuracy"].items()}
        log.info(
            "backtest evaluate: NDCG@%d of %s users: %s",
            k,
            f"{metrics['users']:,}",
            ", ".join(f"{m} {_shown(v)}" for m, v in ndcg.items()),
        )
        return {"users": metrics["users"], "models": len(metrics["models"]), f"ndcg_at_{k}": ndcg}

    inputs = {name: m.output_id for name, m in found.items()}
    manifest.run_stage(
        context.layout, NAME, c.BACKTEST, inputs=inputs, settings=settings, work=work, force=context.force
    )


def _measure(context: Context, folder: Path, known_users: int) -> dict[str, Any]:
    layout, spark, config = context.layout, context.spark, context.config.evaluate
    features = layout.stage("features", c.BACKTEST)
    on_test = F.col(c.AS_OF) == c.TEST
    items = tables.read_arrow(layout.table("clean", c.BACKTEST, "items"), "items", [c.ITEM_IDX, c.CATEGORIES])
    catalogue = Catalogue.of(items, tables.read_arrow(features / "item_counts", "item_counts"))
    held_out = tables.read(spark, features / "positives", "positives")
    positives = held_out.where(on_test)
    histories = tables.read(spark, features / "histories", "histories").where(on_test)
    lists = tables.read(spark, layout.table("score", c.BACKTEST, "lists"), "candidates")
    bootstrap = Bootstrap(config.bootstrap_samples, config.confidence, config.seed)
    models = [*context.config.models, c.FUSED]
    bench = cold_start.Bench(histories, catalogue, config.gate_k, bootstrap)
    spread_out = layout.table("score", c.BACKTEST, c.PRICE)

    def prices() -> dict[str, Any]:
        if not spread_out.is_dir():
            return {}
        varied = tables.read(spark, spread_out, "candidates")
        entries = diversity_tradeoff.measure(varied, positives, histories, catalogue, config.gate_k)
        return {c.PRICE: backtest.finite(entries)}

    found, newcomers, priced = together(
        lambda: backtest.measure(
            lists=lists,
            positives=positives,
            histories=histories,
            catalogue=catalogue,
            baselines=list(context.config.baselines.models),
            models=models,
            cutoffs=config.cutoffs,
            gate_k=config.gate_k,
            known_users=known_users,
            bootstrap=bootstrap,
            bootstrap_users=config.bootstrap_users,
            folder=folder,
        ),
        lambda: backtest.finite(_newcomers(context, held_out, lists, models, bench)),
        prices,
    )
    found |= priced
    return {**found, c.COLD_START: newcomers} if newcomers else found


def _newcomers(
    context: Context, held_out: DataFrame, ordinary: DataFrame, models: list[str], bench: cold_start.Bench
) -> dict[str, Any]:
    """users, items: each where such lists were made."""
    found: dict[str, Any] = {}
    for fold in (c.COLD_USER, c.COLD_ITEM):
        folder, positives = (
            context.layout.table("score", c.BACKTEST, fold),
            held_out.where(F.col(c.AS_OF) == fold),
        )
        lists = tables.read(context.spark, folder, "candidates") if folder.is_dir() else None
        if lists is None or lists.isEmpty():
            continue
        if fold == c.COLD_USER:
            found["users"] = cold_start.measure_users(lists, positives, bench)
        else:
            found["items"] = cold_start.measure_items(lists, positives, ordinary, models, bench)
    return found


def _run_release(context: Context) -> None:
    layout, config, run_date = context.layout, context.config.evaluate, context.run_date
    for stage, of in _RELEASE_INPUTS:
        manifest.require(layout, stage, of)
    facts = RunFacts(layout)
    settings: dict[str, Any] = {
        "gates": config.gates.model_dump(mode="json"),
        "example_users": config.example_users,
        "run_date": run_date.isoformat(),
        "last_rows": release.last_rows(layout, run_date.isoformat()),
    }

    def work(folder: Path) -> Mapping[str, Any]:
        tonight = release.tonight(context.spark, layout, settings["last_rows"])
        verdict = gates.verdict(gates.judge(facts.metrics, tonight, **config.gates.model_dump()))
        manifest.write_json(folder / VERDICT_FILE, verdict)
        release.log_verdict(verdict)
        users = release.example_users(context.spark, layout, config.example_users)
        manifest.write_json(folder / EXAMPLES_FILE, users)
        bad_rows = release.bad_rows(context.spark, layout)
        render.write(layout.report, facts, verdict=verdict, examples=users, bad_rows=bad_rows, run_date=run_date)
        log.info("report: %s", layout.report)
        failed = sum(not gate["passed"] for gate in verdict["gates"])
        return {"gates": len(verdict["gates"]), "failed": failed, "example_users": len(users)}

    inputs = {f"{m.pass_name}/{m.stage}": m.output_id for m in facts.manifests if m.stage not in _AFTER}
    inputs[f"{c.BACKTEST}/{NAME}"] = manifest.require(layout, NAME, c.BACKTEST).output_id
    force = context.force or not layout.report.exists()
    manifest.run_stage(layout, NAME, c.RELEASE, inputs=inputs, settings=settings, work=work, force=force)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
