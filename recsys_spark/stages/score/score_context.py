"""The context of one pass of the score stage: its models, tables, banned items and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_spark import columns as c
from recsys_spark import registry
from recsys_spark.fusion.blend import Blend
from recsys_spark.fusion.fuse import Fusion, SavedRanker
from recsys_spark.fusion.model_selection import RANKER
from recsys_spark.hashing import digest
from recsys_spark.metrics.categories import Categories
from recsys_spark.models import base
from recsys_spark.rules.banned_items import banned_items
from recsys_spark.rules.diversity import Diversification
from recsys_spark.stages.score.all_users import ScoringPlan
from recsys_spark.stages.score.lists import CandidateSearch, ListRequest
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.pipeline.context import Context

NAME = "score"
RANKER_FILE = "ranker.txt"
BLOCKED_FILE = "blocked.json"


@dataclass(frozen=True)
class ScoreContext:
    """`folder` is that of the stage, `models` maps each model to its folder, `counts` go to the manifest."""

    context: Context
    folder: Path
    pass_name: str
    models: dict[str, Path]
    banned: np.ndarray
    counts: dict[str, Any]

    @classmethod
    def of(cls, context: Context, pass_name: str, names: list[str], blocked: list[str], folder: Path) -> ScoreContext:
        """Return the context of a pass of the models `names`; writes the ids of `blocked` items to blocked.json."""
        layout = context.layout
        models = {name: layout.table(registry.entry(name).stage, pass_name, name) for name in names}
        n_items = registry.common_size(list(models.values()))
        items = tables.read_arrow(layout.clean_table("items"), "items", [c.ITEM_IDX, c.ITEM_ID, c.WITHDRAWN])
        excluded = banned_items(items, n_items, blocked)
        manifest.write_json(folder / BLOCKED_FILE, sorted(set(blocked)))
        counts = {"models": names, "n_items": n_items, **excluded.counts}
        return cls(context, folder, pass_name, models, excluded.banned, counts)

    def table(self, name: str, as_of: str) -> DataFrame:
        """Return the rows of a table of the features stage as of a moment."""
        folder = self.context.layout.table("features", self.pass_name, name)
        return tables.read(self.context.spark, folder, name).where(f"{c.AS_OF} = '{as_of}'")

    @property
    def plan(self) -> ScoringPlan:
        score = self.context.config.score
        partitions = score.partitions
        if partitions is None and self.pass_name == c.BACKTEST:
            # the backtest scores some of the users, whom Spark may have put into few partitions
            partitions = 2 * self.context.spark.sparkContext.defaultParallelism
        return ScoringPlan(self.models, score.user_batch, partitions)

    @property
    def search(self) -> CandidateSearch:
        score = self.context.config.score
        return CandidateSearch(self.banned, score.candidates, score.item_tile)

    def request(self, fusion_json: Mapping[str, Any]) -> ListRequest:
        """Return the request for the lists of the pass, with the fusion of fusion.json.

        The backtest needs the list of each model, the release an explanation of each item.
        """
        weights, score = fusion_json["weights"], self.context.config.score
        names = tuple(name for name in self.models if name in weights)
        blend = Blend(fusion_json["method"], tuple(weights[name] for name in names))
        ranker = None
        if fusion_json["selected"] == RANKER:
            ranker = SavedRanker(str(self.ranker_file), score.top_n, score.candidates, self.categories)
        return ListRequest(
            Fusion(names, blend, ranker),
            score.top_n,
            each_model=self.pass_name == c.BACKTEST,
            explained=self.pass_name == c.RELEASE,
            diversifications=(self.diversification,) if self.diversification else (),
        )

    @property
    def ranker_file(self) -> Path:
        return self.context.layout.table(NAME, c.BACKTEST, RANKER_FILE)

    @cached_property
    def diversification(self) -> Diversification | None:
        """The configured diversification, None if lists are not diversified."""
        score = self.context.config.score
        if not score.diversity and score.max_per_category is None:
            return None
        return Diversification(score.diversity, score.max_per_category, self.categories)

    @cached_property
    def categories(self) -> Categories:
        """The categories of the items."""
        items = tables.read_arrow(self.context.layout.clean_table("items"), "items", [c.ITEM_IDX, c.CATEGORIES])
        return Categories.of(items, len(self.banned))

    @property
    def new_item_models(self) -> list[str]:
        """The models that can rank items without interactions."""
        features = manifest.require(self.context.layout, "features", self.pass_name).counts.get("features")
        able = {"always", "with_features"} if features else {"always"}
        return [name for name in self.models if registry.entry(name).new_items in able]

    def version(self, fusion: Fusion) -> str:
        """Return the model version: a hash of the item models, the fusion and the diversification.

        It includes the categories if the ranker or the diversification reads them. Equal versions make equal lists for
        equal histories.
        """
        headers = {name: base.read_header(folder) for name, folder in self.models.items()}
        weights = dict(zip(fusion.models, fusion.blend.weights))
        ranker = [self.ranker_file.read_text(encoding="utf-8")] if fusion.ranker else []
        diversification = [[d.diversity, d.max_per_category] for d in (self.diversification,) if d]
        categories = [self.categories.version] if ranker or diversification else []
        return digest([headers, fusion.blend.method, weights, *ranker, *diversification, *categories])
