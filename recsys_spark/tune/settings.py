"""The settings that a search starts from and changes: the overlay as written, and the checked config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from recsys_spark.config.config import Config
from recsys_spark.config.load import check, load, read, with_values
from recsys_spark.stages.score.stage import SELECTED_BY

SECTIONS = ("clean", "split", "features", "baselines", "train")
"""Sections that the NDCG of a single model may depend on."""
GATE_K = "gate_k"
"""The key of `evaluate` that every NDCG depends on."""
FUSION_KEYS = {
    "score": ("top_n", "candidates", "fusion_users", "fusion", "drop"),
    "evaluate": tuple(name for name in SELECTED_BY if name != GATE_K),
}
"""Further keys that the NDCG of the fused list depends on, by section."""


@dataclass(frozen=True)
class Settings:
    """`tree` is the content of `overlay` with the overrides of the command line; `config` adds the defaults."""

    overlay: Path
    tree: dict[str, Any]
    config: Config

    @classmethod
    def read(cls, overlay: Path, overrides: Iterable[str] = ()) -> Settings:
        """Read and check an overlay; `ConfigError` lists every fault."""
        overrides = list(overrides)
        return cls(overlay, read(overlay, overrides)[0], load(overlay, overrides))

    def value(self, key: str) -> Any:
        """Return the config's value of a dotted key."""
        return reduce(getattr, key.split("."), self.config)

    def tree_with(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the overlay's content with `values` at dotted keys."""
        return with_values(self.tree, values)

    def config_with(self, values: Mapping[str, Any]) -> Config:
        """Return the config with `values` at dotted keys; `ConfigError` when the values contradict each other."""
        return check(self.tree_with(values), self.overlay)

    def facts(self, *, fused: bool) -> dict[str, Any]:
        """Return the settings that the NDCG of a model depends on, and with `fused` that of the fused list.

        The keys are dotted and the values JSON.
        """
        dump = self.config.model_dump(mode="json")
        tree = {name: dump[name] for name in SECTIONS}
        if fused:
            tree |= {section: {name: dump[section][name] for name in names} for section, names in FUSION_KEYS.items()}
        shared = {GATE_K: self.config.evaluate.gate_k, "blocked_items": self.config.score.blocked_items}
        return dict(_flat(tree)) | shared


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
