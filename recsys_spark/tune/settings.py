"""The settings that a search starts from and changes: the overlay as it is written, and as it is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from recsys_spark.config.config import Config
from recsys_spark.config.load import check, load, read, with_values
from recsys_spark.stages.score.stage import JUDGED_BY

CONCERNED = ("clean", "split", "features", "baselines", "train")
"""Sections that what a model reaches on valid may depend on."""

GATE_K = "gate_k"
"""Of `evaluate`: what every model depends on."""
FUSION = {
    "score": ("top_n", "candidates", "fusion_users", "fusion", "drop"),
    "evaluate": tuple(name for name in JUDGED_BY if name != GATE_K),
}
"""What the fused list on valid depends on besides."""


@dataclass(frozen=True)
class Settings:
    """`tree` is what `overlay` holds, overrides of the command line included; `config` has the defaults too."""

    overlay: Path
    tree: dict[str, Any]
    config: Config

    @classmethod
    def read(cls, overlay: Path, overrides: Iterable[str] = ()) -> Settings:
        """`ConfigError` tells every fault."""
        overrides = list(overrides)
        return cls(overlay, read(overlay, overrides)[0], load(overlay, overrides))

    def value(self, key: str) -> Any:
        """What the config has at a dotted key."""
        return reduce(getattr, key.split("."), self.config)

    def tree_with(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The overlay's content with values at dotted keys."""
        return with_values(self.tree, values)

    def config_with(self, values: Mapping[str, Any]) -> Config:
        """The config with values at dotted keys; `ConfigError` when they do not go together."""
        return check(self.tree_with(values), self.overlay)

    def facts(self, *, fused: bool) -> dict[str, Any]:
        """What may decide how good a model is, and with `fused` how good the fused list is, by dotted key, as JSON values."""
        dump = self.config.model_dump(mode="json")
        asked = {GATE_K: self.config.evaluate.gate_k, "blocked_items": self.config.score.blocked_items}
        tree = {name: dump[name] for name in CONCERNED}
        if fused:
            tree |= {part: {name: dump[part][name] for name in names} for part, names in FUSION.items()}
        return dict(_flat(tree)) | asked


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
