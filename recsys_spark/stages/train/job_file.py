"""The job file: everything a training worker needs, as plain values, so that it can be started on any machine that sees `paths.root`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys_spark.storage.manifest import write_json

WEIGHTS = "weights"
"""The folder in `output` that gets the weights which a later training starts from."""


@dataclass(frozen=True)
class Job:
    """Paths are strings. `features` is the folder of the features stage; `output` gets network/ and training.json, and weights/ where the release starts from them.

    `weights` is the folder of the weights to start from, empty where there are none. `start` is the folder of the svd model that the items' vectors begin at, empty where they begin at random; `neighbours` that of the item_knn
    model that says which items are neighbours, empty where that is no matter. There are `examples` of the `kind`
    that features.examples names. `settings` is the train section of the config; `epochs`, `decay_epochs` (of which the learning rate makes its way)
    and `validate` say what this pass makes of it.
    """

    features: str
    output: str
    checkpoints: str
    weights: str
    start: str
    neighbours: str
    examples: int
    kind: str
    n_items: int
    n_features: int
    history_length: int
    epochs: int
    decay_epochs: int
    validate: bool
    settings: dict[str, Any]

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls(**json.loads(path.read_text(encoding="utf-8")))
