"""Read the manifests and small JSON files of a run for the report and for `recsys show`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from recsys_spark.columns import BACKTEST, COLD_START, FORMER_NAMES, FUSED, RELEASE
from recsys_spark.report.labels import ModelLabel
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout
from recsys_spark.storage.manifest import Manifest

METRICS_FILE, VERDICT_FILE = "metrics.json", "verdict.json"
EXAMPLES_FILE, BAD_ROWS_FILE = "examples.json", "bad_rows.json"
STAGES = ("clean", "split", "baselines", "features", "train", "score", "evaluate", "publish")
UNKNOWN_COLOUR = "#cc79a7"


class RunFacts:
    """One run, read lazily, with the labels of its models. Anything the run lacks is an empty dictionary."""

    def __init__(self, layout: Layout, labels: Mapping[str, ModelLabel] | None = None):
        """`labels` are the registry's, in the order in which the report lists models."""
        self.layout = layout
        self.labels = labels or {}

    def label(self, model: str) -> ModelLabel:
        """Return the label of a model; a model that is no longer registered is called by its name in the config."""
        label = self.labels.get(FORMER_NAMES.get(model) or model)
        return label or ModelLabel(model.replace("_", " ").capitalize(), UNKNOWN_COLOUR, "")

    def names(self, models: Iterable[str]) -> list[str]:
        return [self.label(model).label for model in models]

    def colours(self, models: Iterable[str]) -> list[str]:
        return [self.label(model).colour for model in models]

    def in_order(self, models: Iterable[str]) -> list[str]:
        """Return `models` in the order of the labels."""
        order = {name: at for at, name in enumerate(self.labels)}
        return sorted(models, key=lambda name: (order.get(FORMER_NAMES.get(name) or name, len(order)), name))

    @cached_property
    def manifests(self) -> list[Manifest]:
        """The manifests of all finished stages in the order of the night: clean, the backtest, the release."""
        steps = [("clean", None), *((stage, name) for name in (BACKTEST, RELEASE) for stage in STAGES[1:])]
        return [m for stage, name in steps if (m := manifest.read(self.layout.stage(stage, name)))]

    def counts(self, stage: str, pass_name: str | None = BACKTEST) -> dict[str, Any]:
        """Return the counts of a stage's manifest, without those that are null."""
        done = manifest.read(self.layout.stage(stage, pass_name))
        return {key: value for key, value in done.counts.items() if value is not None} if done else {}

    def settings(self, stage: str, pass_name: str | None = BACKTEST) -> dict[str, Any]:
        """Return the settings of a stage's manifest."""
        done = manifest.read(self.layout.stage(stage, pass_name))
        return done.settings if done else {}

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """`metrics.json` of the backtest, with the present names of keys that version 0.1.0 wrote."""
        metrics = self._json("evaluate", METRICS_FILE)
        cold = metrics.get(COLD_START, {})
        for row in (*metrics.get("groups", []), *metrics.get("gaps", [])):
            row["by"] = "popularity" if row["by"] == "taste" else row["by"]
        _rename(cold.get("users", {}).get("lists", {}), segment=FUSED)
        _rename(cold.get("items", {}), chance="random")
        return metrics

    @cached_property
    def training(self) -> dict[str, Any]:
        """`training.json` of the backtest; empty in a run without a network."""
        return self._json("train", "training.json")

    @cached_property
    def fusion(self) -> dict[str, Any]:
        """`fusion.json` of the backtest, with the present names of keys that version 0.1.0 wrote."""
        return _rename(self._json("score", "fusion.json"), ships="selected", contest="comparison")

    def _json(self, stage: str, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.layout.table(stage, BACKTEST, name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}


def _rename(values: dict[str, Any], **names: str) -> dict[str, Any]:
    for former, name in names.items():
        if former in values:
            values[name] = values.pop(former)
    return values
