"""The train stage: the network of a pass, trained by workers that this job starts and watches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from recsys_spark.columns import BACKTEST, ITEM_KNN, NETWORK, RELEASE, SVD
from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.hashing import digest
from recsys_spark.pipeline.job import Context
from recsys_spark.stages.train.job_file import WEIGHTS, Job
from recsys_spark.stages.train.launch import launch
from recsys_spark.storage import manifest
from recsys_spark.storage.manifest import Manifest, require

NAME = "train"
PASSES = (BACKTEST, RELEASE)
CHECKPOINTS = "checkpoints"


def run(context: Context, pass_name: str, watch: Callable[[Path], None] | None = None) -> None:
    """Train the network of `pass_name` into network/ and training.json; only a manifest when training is disabled or the network dropped.

    `watch` is called with the checkpoints' folder after each epoch, and what it raises ends the training; only the launcher `local` heeds it.
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
        job = make_job(context, pass_name, folder, checkpoints, clean, features, backtest, settings)
        if config.launcher == "spark":
            _ = context.spark  # the launcher works in the active session
        launch(
            job,
            workers=config.workers,
            launcher=config.launcher,
            threads=config.threads,
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
    settings: dict[str, Any],
) -> Job:
    """What the workers are told. The release starts from the backtest's weights for `warm_epochs`; without, it starts anew and trains for as many
    epochs as were best in the backtest, of as many as that had time for."""
    if not features.counts["examples"]:
        raise ContractViolation(
            f"{context.layout.table('features', pass_name, 'examples')}: no user has two items, so there is nothing to train on; "
            "set train.enabled to false"
        )
    epochs = decay_epochs = settings["epochs"]
    weights = ""
    if backtest:
        epochs, decay_epochs = backtest.counts["best_epoch"], backtest.counts["planned_epochs"]
        if settings["warm_epochs"]:
            epochs = decay_epochs = settings["warm_epochs"]
            weights = str(_weights(context))
    taken = {
        name: str(context.layout.table("baselines", pass_name, name).resolve())
        for name in context.config.train.required_baselines
    }
    return Job(
        features=str(context.layout.stage("features", pass_name).resolve()),
        output=str(folder.resolve()),
        checkpoints=str(checkpoints.resolve()),
        weights=weights,
        start=taken.get(SVD, ""),
        neighbours=taken.get(ITEM_KNN, ""),
        examples=features.counts["examples"],
        kind=features.settings["examples"],
        n_items=clean.counts["n_items"],
        n_features=features.counts["features"],
        history_length=features.settings["history_length"],
        epochs=epochs,
        decay_epochs=decay_epochs,
        validate=backtest is None,
        settings=settings,
    )


def _weights(context: Context) -> Path:
    """Where the backtest's training left its weights."""
    folder = context.layout.table(NAME, BACKTEST, WEIGHTS).resolve()
    if not folder.is_dir():
        raise StageMissing(
            f"{folder}: the backtest kept no weights, for train.warm_epochs was null then; train it again, or set that to null"
        )
    return folder


def counts(folder: Path) -> dict[str, Any]:
    """What the manifest says of a training."""
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
    """Where this training's checkpoints are; those of trainings from other inputs are thrown away."""
    for other in (folder / CHECKPOINTS).glob("*"):
        if other.name != fingerprint:
            shutil.rmtree(other, ignore_errors=True)
    return folder / CHECKPOINTS / fingerprint
