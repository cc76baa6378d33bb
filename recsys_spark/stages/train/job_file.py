"""The job file: everything that a training worker needs, so that it can start on any machine that sees `paths.root`.

The stage writes it, each worker reads it. An unknown or missing key and a value of another type are errors.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from recsys_spark.storage.manifest import write_json

WEIGHTS = "weights"
"""The folder in `Job.output` with the weights from which the release may start."""

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class TrainSettings:
    """The keys of the config's train section that a worker reads. `conf/base.yaml` explains them."""

    encoder: str
    dimension: int
    neighbours: int
    hidden: int
    layers: int
    attention_heads: int
    dropout: float
    kl_weight: float
    warm_epochs: int | None
    minutes: float | None
    patience: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    temperature: float
    negatives: int
    full_softmax_items: int
    metric_k: int
    valid_users: int
    mixed_precision: bool
    seed: int


@dataclass(frozen=True, config=_STRICT)
class Job:
    """One training.

    features: folder of the features stage · output: folder for network/, training.json and, where the release may start
    from them, weights/ · checkpoints: folder · weights: folder of the weights to start from · start: folder of the svd
    model whose vectors the items start at · neighbours: folder of the item_knn model with the items' neighbours.

    `kind` is the value of features.examples, `examples` their number. The learning rate falls over `decay_epochs`, of
    which at most `epochs` are trained. `validate`: stop early by the validation NDCG.
    """

    features: Path
    output: Path
    checkpoints: Path
    weights: Path | None
    start: Path | None
    neighbours: Path | None
    examples: int
    kind: str
    n_items: int
    n_features: int
    history_length: int
    epochs: int
    decay_epochs: int
    validate: bool
    settings: TrainSettings

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Return the job of a file. pydantic's `ValidationError` names each wrong key."""
        return TypeAdapter(cls).validate_json(path.read_bytes())
