"""Evaluates settings: fits a model, or all models for the fused list, and measures the NDCG on the validation set.

The stages themselves make the tables and fit the models, in a run of the study's own. The user-item pairs
are written once and serve the trials of all models that read nothing else. The test fold is never read.

Shapes:  I items, counting the padding item 0
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_spark import columns as c
from recsys_spark import registry
from recsys_spark.errors import ContractViolation
from recsys_spark.fusion.model_selection import MIN_INFORMATIVE_USERS
from recsys_spark.metrics.ranking import hit_matrix, ndcg
from recsys_spark.models.base import ItemModel
from recsys_spark.pipeline.context import Context
from recsys_spark.rules.banned_items import banned_items, read_blocked
from recsys_spark.stages.baselines import stage as baselines
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.clean import stage as clean
from recsys_spark.stages.features import stage as features
from recsys_spark.stages.score import stage as score
from recsys_spark.stages.split import stage as split
from recsys_spark.stages.train import stage as train
from recsys_spark.stages.train.validation_set import ValidationSet, read_validation_set
from recsys_spark.storage import manifest, tables
from recsys_spark.storage.layout import StudyLayout
from recsys_spark.topk import Exclusions, top_k
from recsys_spark.tune.search import Report, TrialObjective
from recsys_spark.tune.settings import Settings

if TYPE_CHECKING:
    from recsys_spark.config.config import Config

TUNABLE = (*registry.names(), c.FUSED)


def mean_ndcg(
    model: ItemModel, validation: ValidationSet, banned: np.ndarray, *, k: int, batch: int, tile: int
) -> float:
    """Return the mean NDCG@k of the users' held-out items in their lists.

    The lists leave out `banned` items (bool [I]) and the user's history. Each core takes `batch` users at a time.
    """

    n = len(validation.histories)

    def total(start: int) -> float:
        part = validation.users(start, start + batch)
        items, _ = top_k(model, model.encode(part.histories), Exclusions(banned, part.histories), k, tile)
        hits = hit_matrix(items[:, None, :], part.indptr, part.items)[:, 0]
        return float(ndcg(hits, np.diff(part.indptr), k).sum())

    # threads suffice, because numpy and the compiled loops release the interpreter's lock
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(total, range(0, n, batch))) / n


class TrialEvaluator:
    """Evaluates the trials of a study, all on the same validation users and in one Spark session."""

    def __init__(self, context: Context, layout: StudyLayout, settings: Settings):
        """Run the stages that all trials read, unless they are done. `context` has the paths of `layout`."""
        self.context, self.layout, self.settings = context, layout, settings
        clean.run(context)
        for stage in (split, features):
            stage.run(context, c.BACKTEST)
        self.validation = read_validation_set(layout.stage("features", c.BACKTEST), context.config.train.valid_users)
        if not self.n_users:
            raise ContractViolation(
                "the validation set is empty: no user has both a history and held-out items. "
                "Hold out more by the keys of split"
            )
        items = tables.read_arrow(layout.clean_table("items"), "items", [c.ITEM_IDX, c.ITEM_ID, c.WITHDRAWN])
        n_items = manifest.require(layout, "clean").counts["n_items"]
        self.banned = banned_items(items, n_items, read_blocked(context.config.score.blocked_items)).banned
        self.close()  # a killed search leaves its scratch files

    @property
    def n_users(self) -> int:
        return len(self.validation.histories)

    def close(self) -> None:
        """Delete the files that trials share."""
        shutil.rmtree(self.layout.scratch, ignore_errors=True)

    def objective(self, model: str) -> TrialObjective:
        """Return the objective of `model`, one of TUNABLE. Only the network reports, after each epoch."""
        if model in registry.names() and registry.entry(model).fits_on == "pairs":
            return partial(self._fit_on_pairs, model)
        return {c.NETWORK: self._train_network, c.FUSED: self._fuse}.get(model) or partial(self._fit_by_stage, model)

    @cached_property
    def _fit_context(self) -> FitContext:
        inputs = baselines.read_inputs(self.context, c.BACKTEST)
        return baselines.with_pairs(inputs, self.layout.scratch / "pairs")

    def _config(self, values: Mapping[str, Any]) -> Config:
        return self.settings.config_with({**values, "paths.root": str(self.layout.root)})

    @staticmethod
    def _only(models: list[str]) -> dict[str, Any]:
        """Return the settings of a run with only these baselines. Popularity is always fitted."""
        return {"baselines.models": list(dict.fromkeys([c.POPULARITY, *models])), "score.diversity": 0.0}

    def _fit_on_pairs(self, name: str, values: dict[str, Any], report: Report) -> float:
        entry, files = registry.entry(name), self.layout.scratch / name
        shutil.rmtree(files, ignore_errors=True)
        model, _ = entry.fit_function()(
            replace(self._fit_context, settings=entry.settings(self._config(values))), files
        )
        return self._ndcg(model)

    def _fit_by_stage(self, name: str, values: dict[str, Any], report: Report) -> float:
        config = self._config({**values, **self._only([name]), "train.enabled": False})
        baselines.run(replace(self.context, config=config), c.BACKTEST)
        return self._ndcg(registry.load(self.layout.table("baselines", c.BACKTEST, name)))

    def _fuse(self, values: dict[str, Any], report: Report) -> float:
        """Return the cross-validated NDCG of the fused list."""
        config = self._config(values)
        context = replace(self.context, config=config)
        for stage in (features, baselines, *([train] if config.train.enabled else [])):
            stage.run(context, c.BACKTEST)
        ndcg = score.choose_fusion(context)["cross_validated_ndcg"]
        if ndcg is None:
            raise ContractViolation(
                f"fewer than {MIN_INFORMATIVE_USERS} users have validation items among their candidates, too few to "
                "evaluate the fused list. Hold out more by the keys of split, or search single models"
            )
        return float(ndcg)

    def _train_network(self, values: dict[str, Any], report: Report) -> float:
        from recsys_spark.stages.train.checkpoint import read_state

        def watch(checkpoints: Path) -> None:
            state = read_state(checkpoints)
            for epoch in state["epochs"] if state else ():
                report(epoch["epoch"], epoch["ndcg"])

        config = self._config(values)
        required = config.train.required_baselines
        if required:
            config = self._config({**values, **self._only(required)})
        context = replace(self.context, config=config)
        features.run(context, c.BACKTEST)
        if required:
            baselines.run(context, c.BACKTEST)
        train.run(context, c.BACKTEST, watch)
        return self._ndcg(registry.load(self.layout.table("train", c.BACKTEST, c.NETWORK)))

    def _ndcg(self, model: ItemModel) -> float:
        config = self.context.config
        k, batch, tile = config.evaluate.gate_k, config.score.user_batch, config.score.item_tile
        return mean_ndcg(model, self.validation, self.banned, k=k, batch=batch, tile=tile)
