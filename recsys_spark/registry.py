"""Item models by their kind: the only place of the score stage that knows them all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from recsys_spark.columns import ALS, CONTENT, ITEM_COSINE, ITEM_RIDGE, NETWORK, POPULARITY, SVD, USER_COSINE
from recsys_spark.errors import InputUnreadable, LawBroken
from recsys_spark.models import base
from recsys_spark.models.base import ItemModel

KINDS = {
    POPULARITY: ("recsys_spark.models.popularity", "PopularityModel"),
    ALS: ("recsys_spark.models.als", "FactorModel"),
    ITEM_COSINE: ("recsys_spark.models.item_knn", "NeighbourModel"),
    ITEM_RIDGE: ("recsys_spark.models.item_knn", "ItemRidgeModel"),
    USER_COSINE: ("recsys_spark.models.user_knn", "UserNeighbourModel"),
    SVD: ("recsys_spark.models.svd", "SpectralModel"),
    CONTENT: ("recsys_spark.models.item_knn", "ContentModel"),
    # imported when there is one, so that a night of baselines does without torch
    NETWORK: ("recsys_spark.networks.item_model", "NetworkModel"),
}

_opened: dict[str, tuple[str, ItemModel]] = {}


def load(folder: Path) -> ItemModel:
    """The item model in `folder`, memory-mapped once in this process, and again when its header has changed."""
    version = _version(folder)
    found = _opened.get(str(folder))
    if found is None or found[0] != version:
        found = _opened[str(folder)] = version, _open(folder)
    return found[1]


def common_size(folders: Sequence[Path]) -> int:
    """The number of items (the padding item counted) that all the models were made with; `LawBroken` when they differ."""
    sizes = {folder.name: int(base.read_header(folder)["n_items"]) for folder in folders}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise LawBroken(
            f"the item models count different numbers of items ({told}); run jobs/baselines.py and jobs/train.py again with --force"
        )
    return next(iter(sizes.values()))


def _open(folder: Path) -> ItemModel:
    kind = base.read_header(folder)["kind"]
    if kind not in KINDS:
        raise InputUnreadable(f"{folder}/{base.HEADER}: kind {kind!r} is not one of {', '.join(sorted(KINDS))}")
    module, name = KINDS[kind]
    return base.load(folder, {kind: getattr(import_module(module), name)})


def _version(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / base.HEADER).read_bytes()).hexdigest()
    except OSError as error:
        raise InputUnreadable(
            f"{folder} is not an item model: {error}; run the stage that makes it again with --force"
        ) from error
