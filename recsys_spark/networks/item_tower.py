"""The item tower: an item's vector out of its id and its content.

Shapes:  I items counting the padding item 0 · D dimension · C items asked for · K most content features an item has
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NO_FEATURE = 0


class ItemTower(nn.Module):
    """Unit vectors: id embedding plus the mean of the embeddings of the item's content features, when there are any."""

    def __init__(self, *, n_items: int, n_features: int, dimension: int, sparse: bool):
        super().__init__()
        self.ids = nn.Embedding(n_items, dimension, sparse=sparse)
        nn.init.normal_(self.ids.weight, std=dimension**-0.5)
        self.content: nn.EmbeddingBag | None = None
        if n_features:
            self.content = nn.EmbeddingBag(1 + n_features, dimension, mode="mean", padding_idx=NO_FEATURE)
            nn.init.zeros_(self.content.weight)
        # what items there are, not what was learned: travels with the data, not with the weights
        self.register_buffer("features", torch.zeros(n_items, 0, dtype=torch.int64), persistent=False)

    def set_features(self, features: Tensor) -> None:
        """Take the items' content: int64 [I, K] as `feature_matrix` makes it."""
        self.features = features.to(self.ids.weight.device)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """float32 [C, D] unit vectors of `items` (int64 [C]), or [I, D] of all of them."""
        vectors = self.ids.weight if items is None else self.ids(items)
        if self.content is not None:
            vectors = vectors + self.content(self.features if items is None else self.features[items])
        return F.normalize(vectors, dim=-1)


def feature_matrix(n_items: int, items: np.ndarray, offsets: np.ndarray, features: np.ndarray) -> np.ndarray:
    """int64 [I, K] of 1 + feature ids, NO_FEATURE where an item has fewer than K.

    The items int [N] with content have features[offsets[j] : offsets[j + 1]] each.
    """
    counts = np.diff(offsets)
    matrix = np.full((n_items, int(counts.max(initial=0))), NO_FEATURE, np.int64)
    column = np.arange(counts.sum()) - np.repeat(offsets[:-1] - offsets[0], counts)
    matrix[np.repeat(items, counts), column] = features + 1
    return matrix
