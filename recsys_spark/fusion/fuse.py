"""The fused list: the blend of all models, and the order of a ranker where one was selected. Pure numpy.

The score stage calls `fuse` after candidate generation and before the business rules.

Shapes:  M models · B users of a batch · C candidates of a user, where item 0 is padding · n length of a list
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys_spark.columns import PADDING_ITEM, POPULARITY
from recsys_spark.fusion import ranker
from recsys_spark.fusion.blend import METHODS, Blend, normalise, weighted_sum
from recsys_spark.fusion.ranker_features import UserItemFeatures
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories


@dataclass(frozen=True)
class SavedRanker:
    """The file of a ranker for lists of `length`, with candidates of `depth` items from each model."""

    path: str
    length: int
    depth: int
    categories: Categories


@dataclass(frozen=True)
class Fusion:
    """The models that take part, their blend, and the ranker that orders the best of the blend, if there is one."""

    models: tuple[str, ...]
    blend: Blend
    ranker: SavedRanker | None = None


@dataclass(frozen=True)
class FusedCandidates:
    """Candidates by falling score: `items` int32 and `scores` float32 [B, n], padded at the right with item 0 and -inf.

    `contributions` float32 [M, B, n] are the models' weighted normalised scores, -inf of a model without weight.
    """

    items: np.ndarray
    scores: np.ndarray
    contributions: np.ndarray

    def first(self, n: int) -> FusedCandidates:
        """Return the first n candidates of each user."""
        return FusedCandidates(self.items[:, :n], self.scores[:, :n], self.contributions[:, :, :n])

    def take(self, columns: np.ndarray, scores: np.ndarray) -> FusedCandidates:
        """Return the candidates in `columns` int64 [B, n] with new `scores` float32 [B, n]; -1 stands for padding."""
        at = np.maximum(columns, 0)
        items = np.where(columns < 0, np.int32(PADDING_ITEM), np.take_along_axis(self.items, at, axis=1))
        return FusedCandidates(items, scores, np.take_along_axis(self.contributions, at[None], axis=2))


def fuse(
    fusion: Fusion,
    items: np.ndarray,
    scores: np.ndarray,
    n: int,
    models: Mapping[str, ItemModel],
    histories: Histories,
) -> FusedCandidates:
    """Return the fused top n by (-score, item); n is cut to C.

    `scores` float32 [M, B, C] are those of the candidates `items` int32 [B, C], ascending, by `fusion.models`. A ranker
    changes the order and the scores, but no contribution. It reads the popularity model of `models`.
    """
    weights = np.asarray(fusion.blend.weights, np.float32)
    methods = METHODS if fusion.ranker else (fusion.blend.method,)
    normalised = {method: normalise(method, scores, items) for method in methods}
    blended = normalised[fusion.blend.method]
    total = weighted_sum(fusion.blend.weights, blended, items)
    if saved := fusion.ranker:
        features = UserItemFeatures.of(histories, models[POPULARITY], saved.categories)
        inputs = ranker.RankerInputs(fusion.models, items, normalised, features, saved.depth)
        total = ranker.rerank(ranker.load(saved.path, fusion.models), inputs, total, saved.length)
    # candidates ascend, so a stable sort breaks ties by the lower item
    order = np.argsort(-total, axis=1, kind="stable")[:, :n]
    top_scores = np.take_along_axis(total, order, axis=1)
    top_items = np.where(np.isneginf(top_scores), np.int32(PADDING_ITEM), np.take_along_axis(items, order, axis=1))
    contributions = np.take_along_axis(blended, order[None], axis=2) * weights[:, None, None]
    contributions[weights == 0] = -np.inf
    return FusedCandidates(top_items, top_scores, contributions)
