"""The registry of item models: one entry a model, in the order in which models are listed everywhere.

To add a model, write its module, its config section and its entry here. Stages look entries up by name; the class and
the fit function are imported at first use, so a night without a network never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recsys_spark.columns import (
    ALS,
    CONTENT,
    FORMER_NAMES,
    FUSED,
    ITEM_KNN,
    ITEM_RIDGE,
    NETWORK,
    POPULARITY,
    SVD,
    USER_KNN,
)
from recsys_spark.errors import ContractViolation, InputUnreadable
from recsys_spark.report.labels import FUSED_LABEL, ModelLabel

if TYPE_CHECKING:
    from recsys_spark.models.base import ItemModel


@dataclass(frozen=True)
class ModelEntry:
    name: str
    """The name in the config, in manifests, in the column `source`, and the `kind` in the header of a saved model."""
    item_model: str
    """The class, as "module:Class"."""
    section: str
    """The dotted config key of the model's settings, such as "baselines.als"."""
    fit: str | None
    """The function that fits the model with Spark, as "module:function". It takes (FitContext, scratch folder) and
    returns (ItemModel, counts for the manifest). None: the train stage makes the model."""
    fits_on: Literal["events", "pairs", "items"] | None
    """The data that `fit` reads: the train fold's events, its user-item pairs, or the items table."""
    label: ModelLabel
    new_items: Literal["never", "always", "with_features"] = "never"
    """Whether the model can rank items without interactions. "with_features": only if the features stage found any."""

    @property
    def stage(self) -> str:
        """The stage that writes the model."""
        return "baselines" if self.fit else "train"

    def model_class(self) -> type[ItemModel]:
        return _imported(self.item_model)

    def fit_function(self) -> Callable[..., tuple[ItemModel, dict[str, Any]]]:
        if self.fit is None:
            raise ValueError(f"the train stage makes {self.name}; it has no fit function")
        return _imported(self.fit)

    def settings(self, config: Any) -> Any:
        """The model's section of `config`."""
        return reduce(getattr, self.section.split("."), config)


_entries: dict[str, ModelEntry] = {}
_opened: dict[str, tuple[dict[str, Any], ItemModel]] = {}


def register(entry: ModelEntry) -> None:
    """Add a model to this process; `ValueError` if its name is taken."""
    if entry.name in _entries:
        raise ValueError(f"item model {entry.name!r} is already registered")
    _entries[entry.name] = entry


def entry(name: str) -> ModelEntry:
    """The entry of the model `name`; `KeyError` if there is none."""
    return _entries[name]


def names() -> tuple[str, ...]:
    """The names of all models, in order."""
    return tuple(_entries)


def labels() -> dict[str, ModelLabel]:
    """The labels of all models, in order, and of the fused list, which comes last."""
    return {name: entry.label for name, entry in _entries.items()} | {FUSED: FUSED_LABEL}


def load(folder: Path) -> ItemModel:
    """The item model in `folder`, memory-mapped; opened once in this process until its header changes."""
    from recsys_spark.models import base  # numpy and scipy, which the command line does without

    header = base.read_header(folder)
    cached = _opened.get(str(folder))
    if cached is None or cached[0] != header:
        _opened[str(folder)] = cached = header, base.load(folder, {header["kind"]: _class_of(header["kind"], folder)})
    return cached[1]


def common_size(folders: Sequence[Path]) -> int:
    """The number of items (counting the padding item) of all models; `ContractViolation` if they differ."""
    from recsys_spark.models import base

    sizes = {folder.name: int(base.read_header(folder)["n_items"]) for folder in folders}
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ContractViolation(
            f"the item models have different numbers of items ({each}). "
            "Run jobs/baselines.py and jobs/train.py again with --force"
        )
    return next(iter(sizes.values()))


def _class_of(kind: str, folder: Path) -> type[ItemModel]:
    name = FORMER_NAMES.get(kind, kind)
    if name not in _entries:
        raise InputUnreadable(f"{folder}: unknown kind of item model {kind!r}. Known: {', '.join(_entries)}")
    return _entries[name].model_class()


def _imported(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)


# The colours are Okabe and Ito's, which colour-blind readers can tell apart. The blue is lighter, so that it shows on a
# dark page. The three added ones are as far from these and from each other.
for _entry in (
    ModelEntry(
        POPULARITY,
        "recsys_spark.models.popularity:PopularityModel",
        "baselines.popularity",
        "recsys_spark.stages.baselines.popularity:fit",
        "events",
        ModelLabel("Popularity", "#8b929c", "Recommends the items with the most interactions to every user."),
    ),
    ModelEntry(
        ALS,
        "recsys_spark.models.als:AlsModel",
        "baselines.als",
        "recsys_spark.stages.baselines.als:fit",
        "pairs",
        ModelLabel("ALS", "#e69f00", "Matrix factorization: learns vectors of items by alternating least squares."),
    ),
    ModelEntry(
        ITEM_KNN,
        "recsys_spark.models.item_knn:ItemKnnModel",
        "baselines.item_knn",
        "recsys_spark.stages.baselines.item_knn:fit",
        "pairs",
        ModelLabel("Item kNN", "#009e73", "Recommends items that share users with the items in the user's history."),
    ),
    ModelEntry(
        ITEM_RIDGE,
        "recsys_spark.models.item_knn:ItemRidgeModel",
        "baselines.item_ridge",
        "recsys_spark.stages.baselines.item_ridge:fit",
        "pairs",
        ModelLabel("Item ridge", "#00696b", "Ridge regression: predicts an item from the user's other items."),
    ),
    ModelEntry(
        USER_KNN,
        "recsys_spark.models.user_knn:UserKnnModel",
        "baselines.user_knn",
        "recsys_spark.stages.baselines.user_knn:fit",
        "pairs",
        ModelLabel("User kNN", "#c00e40", "Recommends the items of the most similar users."),
    ),
    ModelEntry(
        SVD,
        "recsys_spark.models.svd:SvdModel",
        "baselines.svd",
        "recsys_spark.stages.baselines.svd:fit",
        "pairs",
        ModelLabel("SVD", "#8260ef", "Truncated SVD: keeps the strongest patterns of the user-item matrix."),
    ),
    ModelEntry(
        CONTENT,
        "recsys_spark.models.item_knn:ContentModel",
        "baselines.content",
        "recsys_spark.stages.baselines.content:fit",
        "items",
        ModelLabel("Content", "#c39e5b", "Recommends items with a similar title, text and categories, new ones too."),
        new_items="always",
    ),
    ModelEntry(
        NETWORK,
        "recsys_spark.networks.item_model:NetworkModel",
        "train",
        None,
        None,
        ModelLabel("Network", "#1f8ac9", "Two-tower neural network: reads the user's history and the items' content."),
        new_items="with_features",
    ),
):
    register(_entry)
