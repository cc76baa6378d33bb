"""What a run's folder says of itself: manifests and the small JSON files that stages leave beside their tables."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import SHARED_STAGES, Layout
from recsys_spark.storage.manifest import Manifest

METRICS_FILE, VERDICT_FILE, EXAMPLES_FILE = "metrics.json", "verdict.json", "examples.json"
STAGES = ("clean", "split", "baselines", "features", "train", "score", "evaluate", "publish")


class RunFacts:
    """One run, read lazily. What a run does not have is an empty dictionary or None."""

    def __init__(self, layout: Layout):
        self.layout = layout

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Of all finished stages, backtest first, in the order of the night; a stage that serves both passes once."""
        wanted = [(s, p) for p in (BACKTEST, RELEASE) for s in STAGES if p == BACKTEST or s not in SHARED_STAGES]
        return [m for s, p in wanted if (m := manifest.read(self.layout.stage(s, p)))]

    def counts(self, stage: str, pass_name: str = BACKTEST) -> dict[str, Any]:
        """The counts of a stage's manifest, without those that are null."""
        found = manifest.read(self.layout.stage(stage, pass_name))
        return {key: value for key, value in found.counts.items() if value is not None} if found else {}

    def settings(self, stage: str, pass_name: str = BACKTEST) -> dict[str, Any]:
        found = manifest.read(self.layout.stage(stage, pass_name))
        return found.settings if found else {}

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """`metrics.json` of the backtest."""
        return self._json("evaluate", METRICS_FILE)

    @cached_property
    def training(self) -> dict[str, Any]:
        """`training.json` of the backtest; empty on a night of baselines only."""
        return self._json("train", "training.json")

    @cached_property
    def fusion(self) -> dict[str, Any]:
        """`fusion.json` of the backtest."""
        return self._json("score", "fusion.json")

    def _json(self, stage: str, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.layout.table(stage, BACKTEST, name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
