"""The evaluate stage. Backtest: measure every model on the test fold. Release: judge the gates and write the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark import registry
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.parallel import run_parallel
from recsys_spark.pipeline.context import Context
from recsys_spark.report import render
from recsys_spark.report.run_facts import BAD_ROWS_FILE, EXAMPLES_FILE, METRICS_FILE, VERDICT_FILE, RunFacts
from recsys_spark.stages.evaluate import backtest, cold_start, diversity_tradeoff, gates, release
from recsys_spark.stages.evaluate.backtest import Catalogue
from recsys_spark.stages.evaluate.cold_start import Evaluator
from recsys_spark.stages.evaluate.summary import finite
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

NAME = "evaluate"
PASSES = (c.BACKTEST, c.RELEASE)

_BACKTEST_INPUTS = (("clean", None), ("features", c.BACKTEST), ("score", c.BACKTEST))
_RELEASE_INPUTS = (*_BACKTEST_INPUTS, (NAME, c.BACKTEST), ("features", c.RELEASE), ("score", c.RELEASE))
_AFTER = {NAME, "publish"}
_RELEASE_ONLY = {"gates", "example_users"}


def run(context: Context, pass_name: str) -> None:
    if pass_name == c.BACKTEST:
        _run_backtest(context)
    else:
        _run_release(context)


def _run_backtest(context: Context) -> None:
    settings = {
        "evaluate": context.config.evaluate.model_dump(mode="json", exclude=_RELEASE_ONLY),
        "models": context.config.models,
        "baselines": list(context.config.baselines.models),
    }

    def work(folder: Path) -> Mapping[str, Any]:
        metrics = finite(_measure(context, folder))
        manifest.write_json(folder / METRICS_FILE, metrics)
        k = metrics["gate_k"]
        ndcg = {model: by_k[str(k)]["ndcg"]["mean"] for model, by_k in metrics["accuracy"].items()}
        shown = ", ".join(f"{m} {'unknown' if v is None else f'{v:.4f}'}" for m, v in ndcg.items())
        log.info("backtest evaluate: NDCG@%d on %s users: %s", k, f"{metrics['users']:,}", shown)
        return {"users": metrics["users"], "models": len(metrics["models"]), f"ndcg_at_{k}": ndcg}

    inputs = manifest.output_ids(context.layout, _BACKTEST_INPUTS)
    manifest.run_stage(
        context.layout, NAME, c.BACKTEST, inputs=inputs, settings=settings, work=work, force=context.force
    )


def _measure(context: Context, folder: Path) -> dict[str, Any]:
    """Return the content of `metrics.json`; writes `user_metrics` into `folder`."""
    layout, config = context.layout, context.config.evaluate
    features = layout.stage("features", c.BACKTEST)
    items = tables.read_arrow(layout.clean_table("items"), "items", [c.ITEM_IDX, c.CATEGORIES])
    catalogue = Catalogue.of(items, tables.read_arrow(features / "item_counts", "item_counts"))
    positives = tables.read(context.spark, features / "positives", "positives")
    histories = tables.read(context.spark, features / "histories", "histories").where(F.col(c.AS_OF) == c.TEST)
    bootstrap = Bootstrap(config.bootstrap_samples, config.confidence, config.seed)
    evaluator = Evaluator(histories, catalogue, config.gate_k, bootstrap)
    counts = manifest.require(layout, "features", c.BACKTEST).counts
    lists = tables.read(context.spark, layout.table("score", c.BACKTEST, "lists"), "candidates")
    on_test = positives.where(F.col(c.AS_OF) == c.TEST)
    models = [*context.config.models, c.FUSED]

    def optional(name: str) -> DataFrame | None:
        """Return lists that the score stage makes under some settings only, None without any."""
        path = layout.table("score", c.BACKTEST, name)
        frame = tables.read(context.spark, path, "candidates") if path.is_dir() else None
        return None if frame is None or frame.isEmpty() else frame

    def cold_users() -> dict[str, Any]:
        if (own := optional(c.COLD_USER)) is None:
            return {}
        return {"users": cold_start.measure_users(own, positives.where(F.col(c.AS_OF) == c.COLD_USER), evaluator)}

    def cold_items() -> dict[str, Any]:
        if (own := optional(c.COLD_ITEM)) is None:
            return {}
        held_out = positives.where(F.col(c.AS_OF) == c.COLD_ITEM)
        return {"items": cold_start.measure_items(own, held_out, lists, models, evaluator)}

    def tradeoff() -> list[dict[str, Any]]:
        if (own := optional(c.DIVERSITY_TRADEOFF)) is None:
            return []
        return diversity_tradeoff.measure(own, on_test, histories, catalogue, config.gate_k)

    metrics, users, items, entries = run_parallel(
        lambda: backtest.measure(
            lists=lists,
            positives=on_test,
            histories=histories,
            catalogue=catalogue,
            baselines=list(context.config.baselines.models),
            models=models,
            cutoffs=config.cutoffs,
            gate_k=config.gate_k,
            users_with_history=int(counts["users_with_history"]),
            bootstrap=bootstrap,
            bootstrap_users=config.bootstrap_users,
            folder=folder,
        ),
        cold_users,
        cold_items,
        tradeoff,
    )
    extra = {c.COLD_START: {**users, **items}, c.DIVERSITY_TRADEOFF: entries}
    return metrics | {name: value for name, value in extra.items() if value}


def _run_release(context: Context) -> None:
    layout, config, run_date = context.layout, context.config.evaluate, context.run_date
    for stage, pass_name in _RELEASE_INPUTS:
        manifest.require(layout, stage, pass_name)
    facts = RunFacts(layout, registry.labels())
    settings: dict[str, Any] = {
        "gates": config.gates.model_dump(mode="json"),
        "example_users": config.example_users,
        "run_date": run_date.isoformat(),
        "last_rows": release.last_rows(layout, run_date.isoformat()),
    }

    def work(folder: Path) -> Mapping[str, Any]:
        counts = release.release_counts(context.spark, layout, settings["last_rows"])
        verdict = gates.verdict(gates.judge(facts.metrics, counts, **config.gates.model_dump()))
        manifest.write_json(folder / VERDICT_FILE, verdict)
        release.log_verdict(verdict)
        users = release.example_users(context.spark, layout, config.example_users)
        manifest.write_json(folder / EXAMPLES_FILE, users)
        bad_rows = release.bad_rows(context.spark, layout)
        manifest.write_json(folder / BAD_ROWS_FILE, bad_rows)
        render.write(layout.report, facts, verdict=verdict, examples=users, bad_rows=bad_rows, run_date=run_date)
        log.info("report: %s", layout.report)
        failed = sum(not gate["passed"] for gate in verdict["gates"])
        return {"gates": len(verdict["gates"]), "failed": failed, "example_users": len(users)}

    inputs = {m.step: m.output_id for m in facts.manifests if m.stage not in _AFTER}
    inputs |= manifest.output_ids(layout, [(NAME, c.BACKTEST)])
    force = context.force or not layout.report.exists()
    manifest.run_stage(layout, NAME, c.RELEASE, inputs=inputs, settings=settings, work=work, force=force)
