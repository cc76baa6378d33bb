"""How good settings are: one model or the fused list of all, fitted on the train fold by the stages' own code, and the NDCG for valid users.

The tables are made once by the stages themselves, in a run of the study's own; the pairs' blocks once for all trials of the models that need
nothing else. What is held out for the test is never read.

Shapes:  I items counting the padding item 0
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
from recsys_spark import registry as item_models
from recsys_spark.errors import ContractViolation
from recsys_spark.fusion.decision import FEWEST
from recsys_spark.metrics.ranking import hit_matrix, user_metrics
from recsys_spark.models.base import ItemModel
from recsys_spark.pipeline.job import Context
from recsys_spark.rules.exclusions import exclusions, read_blocked
from recsys_spark.stages.baselines import stage as baselines
from recsys_spark.stages.clean import stage as clean
from recsys_spark.stages.features import stage as features
from recsys_spark.stages.score import stage as score
from recsys_spark.stages.split import stage as split
from recsys_spark.stages.train import stage as train
from recsys_spark.stages.train.validation_set import Held, read_held
from recsys_spark.storage import manifest, tables
from recsys_spark.storage.layout import StudyLayout
from recsys_spark.topk import Exclusions, top_k
from recsys_spark.tune.search import Objective, Report
from recsys_spark.tune.settings import Settings

if TYPE_CHECKING:
    from recsys_spark.config.config import Config

TUNABLE = (*c.MODELS, c.FUSED)


def mean_ndcg(model: ItemModel, held: Held, banned: np.ndarray, *, k: int, batch: int, tile: int) -> float:
    """Mean NDCG@k of the held-out items in the lists of their users, who are shown neither `banned` (bool [I]) nor their history; `batch`
    users at a time on each core."""

    def total(start: int) -> float:
        histories = held.histories.rows(start, start + batch)
        items, _ = top_k(model, model.encode(histories), Exclusions(banned, histories), k, tile)
        indptr = held.indptr[start : start + batch + 1]
        positives = held.items[indptr[0] : indptr[-1]]
        hits = hit_matrix(items[:, None, :], indptr - indptr[0], positives)
        return float(user_metrics(hits, np.diff(indptr), k)["ndcg"].sum())

    # threads: the loops are compiled and hold no lock
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(total, range(0, len(held.histories), batch))) / len(held.histories)


class Judge:
    """Judges trials in one Spark session; `held` are the users that all of them are judged on."""

    def __init__(self, context: Context, layout: StudyLayout, settings: Settings):
        """Run the stages that trials stand on, those that are not done already. `context` is over `layout`, with the config of `settings`."""
        self.context, self.layout, self.settings = context, layout, settings
        clean.run(context)
        for stage in (split, features):
            stage.run(context, c.BACKTEST)
        self.held = read_held(layout.stage("features", c.BACKTEST), context.config.train.valid_users)
        if not len(self.held.histories):
            raise ContractViolation(
                "no user has both a history and items held out for valid, so there is nothing to judge by; hold out more (split)"
            )
        items = tables.read_arrow(
            layout.clean_table("items"), "items", [c.ITEM_IDX, c.ITEM_ID, c.WITHDRAWN]
        )
        n_items = manifest.require(layout, "clean").counts["n_items"]
        self.banned = exclusions(items, n_items, read_blocked(context.config.score.blocked_items)).banned
        self.close()  # what a killed search left

    def close(self) -> None:
        """Take away what trials share."""
        shutil.rmtree(self.layout.scratch, ignore_errors=True)

    def objective(self, model: str) -> Objective:
        """What judges settings of `model`, one of TUNABLE. Only the network reports on its way, after each epoch."""
        if model in baselines.OF_PAIRS:
            return partial(self._of_pairs, model)
        return {c.NETWORK: self._network, c.FUSED: self._fused}.get(model) or partial(self._of_stage, model)

    @cached_property
    def _desk(self) -> baselines.Desk:
        fold, sizes = baselines.train_fold(self.context, c.BACKTEST)
        return baselines.open_desk(fold, self.layout.scratch, section=self.context.config.baselines, **sizes)

    def _config(self, values: Mapping[str, Any]) -> Config:
        return self.settings.config_with({**values, "paths.root": str(self.layout.root)})

    @staticmethod
    def _only(models: list[str]) -> dict[str, Any]:
        """Settings of a night of these baselines, which asks nothing of others."""
        return {"baselines.models": list(dict.fromkeys([c.POPULARITY, *models])), "score.diversity": 0.0}

    def _of_pairs(self, name: str, values: dict[str, Any], report: Report) -> float:
        desk = replace(self._desk, section=self._config(values).baselines)
        files = self.layout.scratch / name
        shutil.rmtree(files, ignore_errors=True)
        model, _ = baselines.OF_PAIRS[name](desk, files)
        return self._ndcg(model)

    def _of_stage(self, name: str, values: dict[str, Any], report: Report) -> float:
        alone = {**self._only([name]), "train.enabled": False}
        baselines.run(replace(self.context, config=self._config({**values, **alone})), c.BACKTEST)
        return self._ndcg(item_models.load(self.layout.table("baselines", c.BACKTEST, name)))

    def _fused(self, values: dict[str, Any], report: Report) -> float:
        """What ships, each user by trees and weights that were learned on others."""
        config = self._config(values)
        context = replace(self.context, config=config)
        for stage in (features, baselines, *([train] if config.train.enabled else [])):
            stage.run(context, c.BACKTEST)
        ndcg = score.learn(context)["crossed_ndcg"]
        if ndcg is None:
            raise ContractViolation(
                f"with fewer than {FEWEST} users who have valid items among their candidates the fusion cannot be judged; "
                "hold out more (split), or search single models"
            )
        return float(ndcg)

    def _network(self, values: dict[str, Any], report: Report) -> float:
        from recsys_spark.stages.train.checkpoint import read_state

        def watch(checkpoints: Path) -> None:
            state = read_state(checkpoints)
            for epoch in state["epochs"] if state else ():
                report(epoch["epoch"], epoch["ndcg"])

        config = self._config(values)
        taken = config.train.required_baselines
        if taken:  # these, and no other baseline
            config = self._config({**values, **self._only(taken)})
        context = replace(self.context, config=config)
        features.run(context, c.BACKTEST)
        if taken:
            baselines.run(context, c.BACKTEST)
        train.run(context, c.BACKTEST, watch)
        return self._ndcg(item_models.load(self.layout.table("train", c.BACKTEST, c.NETWORK)))

    def _ndcg(self, model: ItemModel) -> float:
        config = self.context.config
        sizes = {
            "k": config.evaluate.gate_k,
            "batch": config.score.user_batch,
            "tile": config.score.item_tile,
        }
        return mean_ndcg(model, self.held, self.banned, **sizes)
