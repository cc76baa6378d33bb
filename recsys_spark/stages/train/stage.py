"""The train stage: the network of a pass, trained by workers that this job starts and watches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from recsys_spark.columns import BACKTEST, ITEM_KNN, NETWORK, RELEASE, SVD
from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.hashing import digest
from recsys_spark.pipeline.context import Context
from recsys_spark.stages.train.job_file import WEIGHTS, Job, TrainSettings
from recsys_spark.stages.train.launch import launch
from recsys_spark.storage import manifest
from recsys_spark.storage.manifest import Manifest, require

NAME = "train"
PASSES = (BACKTEST, RELEASE)
CHECKPOINTS = "checkpoints"


def run(context: Context, pass_name: str, watch: Callable[[Path], None] | None = None) -> None:
    """Train the network of `pass_name` into network/ and training.json.

    Only a manifest is written when training is disabled or the backtest dropped the network. `watch` is called with the
    folder of the checkpoints after each epoch. If it raises, the training ends. Only the launcher `local` calls it.
    """
    config = context.config.train
    enabled = NETWORK in context.models(pass_name)
    settings = {**config.model_dump(mode="json"), "enabled": enabled}
    inputs, backtest = {}, None
    if enabled:
        features = require(context.layout, "features", pass_name)
        clean = require(context.layout, "clean")
        inputs = {"clean": clean.output_id, f"{pass_name}/features": features.output_id}
        if config.required_baselines:
            inputs[f"{pass_name}/baselines"] = require(context.layout, "baselines", pass_name).output_id
        if pass_name == RELEASE:
            backtest = require(context.layout, NAME, BACKTEST)
            inputs[f"{BACKTEST}/{NAME}"] = backtest.output_id

    def work(folder: Path) -> dict[str, Any]:
        if not enabled:
            return {}
        checkpoints = _checkpoints(folder, digest([inputs, settings]))
        job = make_job(context, pass_name, folder, checkpoints, clean, features, backtest)
        if config.launcher == "spark":
            _ = context.spark  # the launcher works in the active session
        launch(
            job,
            workers=config.workers,
            launcher=config.launcher,
            threads=worker_threads(context),
            timeout_s=config.timeout_s,
            watch=partial(watch, checkpoints) if watch else None,
        )
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        return counts(folder)

    manifest.run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs=inputs,
        settings=settings,
        work=work,
        force=context.force,
        keep=[CHECKPOINTS],
    )


def make_job(
    context: Context,
    pass_name: str,
    folder: Path,
    checkpoints: Path,
    clean: Manifest,
    features: Manifest,
    backtest: Manifest | None,
) -> Job:
    """Return the job of the workers; `backtest` is the manifest of the backtest's training in the release.

    With warm_epochs the release starts from the backtest's weights. Otherwise it starts anew and trains for as many
    epochs as were best in the backtest.
    """
    config, layout = context.config.train, context.layout
    if not features.counts["examples"]:
        raise ContractViolation(
            f"{layout.table('features', pass_name, 'examples')}: there are no training examples, because no user has "
            "two items. Set train.enabled to false"
        )
    epochs = decay_epochs = config.epochs
    weights = None
    if backtest:
        epochs, decay_epochs = backtest.counts["best_epoch"], backtest.counts["planned_epochs"]
        if config.warm_epochs:
            epochs = decay_epochs = config.warm_epochs
            weights = _weights(context)
    baselines = {name: layout.table("baselines", pass_name, name).resolve() for name in config.required_baselines}
    return Job(
        features=layout.stage("features", pass_name).resolve(),
        output=folder.resolve(),
        checkpoints=checkpoints.resolve(),
        weights=weights,
        start=baselines.get(SVD),
        neighbours=baselines.get(ITEM_KNN),
        examples=features.counts["examples"],
        kind=features.settings["examples"],
        n_items=clean.counts["n_items"],
        n_features=features.counts["features"],
        history_length=features.settings["history_length"],
        epochs=epochs,
        decay_epochs=decay_epochs,
        validate=backtest is None,
        settings=TrainSettings(**{key.name: getattr(config, key.name) for key in fields(TrainSettings)}),
    )


def worker_threads(context: Context) -> int:
    """Return the threads of each worker: train.threads, or if it is null all cores that a worker may use.

    Local workers share the machine's cores evenly. An executor's worker has the cores of a Spark task.
    """
    config = context.config.train
    if config.threads:
        return config.threads
    if config.launcher == "spark":
        return int(context.spark.sparkContext.getConf().get("spark.task.cpus", "1"))
    return max(1, len(os.sched_getaffinity(0)) // config.workers)


def _weights(context: Context) -> Path:
    """Return the folder of the backtest's weights. `StageMissing` if there is none."""
    folder = context.layout.table(NAME, BACKTEST, WEIGHTS).resolve()
    if not folder.is_dir():
        raise StageMissing(
            f"{folder}: no saved weights, because the backtest ran with train.warm_epochs = null. "
            "Run the backtest's train stage again, or set train.warm_epochs to null"
        )
    return folder


def counts(folder: Path) -> dict[str, Any]:
    """Return the manifest's counts of a finished training."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    best = training["epochs"][training["best_epoch"] - 1]
    return {
        "epochs": len(training["epochs"]),
        "best_epoch": training["best_epoch"],
        "planned_epochs": training["planned_epochs"],
        "valid_ndcg": best["ndcg"],
        "workers": training["workers"],
        "device": training["device"],
        "model": NETWORK,
    }


def _checkpoints(folder: Path, fingerprint: str) -> Path:
    """Return the folder of this training's checkpoints. Checkpoints of trainings from other inputs are deleted."""
    for other in (folder / CHECKPOINTS).glob("*"):
        if other.name != fingerprint:
            shutil.rmtree(other, ignore_errors=True)
    return folder / CHECKPOINTS / fingerprint
