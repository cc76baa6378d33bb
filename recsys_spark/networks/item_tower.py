"""The item tower: an item's vector from its id, content and neighbours, its bias, and its weight in a history.

Shapes:  I items counting the padding item 0 · D dimension · C chosen items · K most content features an item has ·
N most neighbours
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NO_FEATURE = 0
ID_LENGTH_WITH_CONTENT = 0.16
"""Initial length of an item's id embedding if items have content. Rare items then stay close to their content."""
NEIGHBOUR_FACTOR = 10.0
"""Factor of the mean of an item's neighbours, which is added to the item's own vector."""


class _SparseProduct(torch.autograd.Function):
    """A sparse matrix times `vectors`. The given transpose makes it six times as fast as torch's own gradient."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.transpose = transpose
        with torch.autocast(vectors.device.type, enabled=False):
            return matrix @ vectors.float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose @ gradient.float(), None, None


class ItemTower(nn.Module):
    """Makes item rows of W numbers: the vector, with `item_weights` the logarithm of the weight in a history, the bias.

    An item's own vector is its id embedding plus the mean embedding of its content features. With neighbours,
    NEIGHBOUR_FACTOR times the mean of the neighbours' own vectors is added. This is one hop over the item graph, as
    LightGCN (He et al., SIGIR 2020) makes over the graph of users and items.
    """

    def __init__(self, *, n_items: int, n_features: int, dimension: int, sparse: bool, item_weights: bool = False):
        super().__init__()
        self.dimension = dimension
        self.item_weights = item_weights
        # bias and weight are in the same table, so that one gradient has all of them
        self.ids = nn.Embedding(n_items, dimension + item_weights + 1, sparse=sparse)
        length = ID_LENGTH_WITH_CONTENT if n_features else 1.0
        nn.init.normal_(self.ids.weight, std=length * dimension**-0.5)
        self.content: nn.EmbeddingBag | None = None
        if n_features:
            self.content = nn.EmbeddingBag(1 + n_features, dimension, mode="mean", padding_idx=NO_FEATURE)
            nn.init.zeros_(self.content.weight)
        # these describe the catalogue, so they are no part of the saved weights
        self.register_buffer("features", torch.zeros(n_items, 0, dtype=torch.int64), persistent=False)
        self.register_buffer("near", torch.zeros(n_items, 0, dtype=torch.int64), persistent=False)
        self.register_buffer("shares", torch.zeros(n_items, 0), persistent=False)
        for name in ("graph", "graph_transpose"):
            self.register_buffer(name, None, persistent=False)

    def set_features(self, features: Tensor) -> None:
        """Set the items' content, int64 [I, K] as `feature_matrix` makes it.

        `ValueError` for a feature that the network does not have.
        """
        if self.content is not None and features.numel() and int(features.max()) >= len(self.content.weight):
            raise ValueError(
                f"an item has feature {int(features.max()) - 1}, but the network has only "
                f"{len(self.content.weight) - 1} features"
            )
        self.features = features.to(self.ids.weight.device)

    def set_neighbours(self, near: Tensor, shares: Tensor) -> None:
        """Set the items whose vectors are added to an item's own.

        `near` int64 [I, N] is 0-padded. `shares` float32 [I, N] sum to 1, or to 0 for an item without neighbours.
        """
        filled = shares > 0
        places = torch.stack([filled.nonzero()[:, 0], near[filled]])
        graph = torch.sparse_coo_tensor(places, shares[filled], (len(near), len(near)), check_invariants=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
            matrices = graph.to_sparse_csr(), graph.T.to_sparse_csr()
        device = self.ids.weight.device
        self.near, self.shares, self.graph, self.graph_transpose = (t.to(device) for t in (near, shares, *matrices))

    @torch.no_grad()
    def set_popularity(self, counts: Tensor, temperature: float) -> None:
        """Start the biases at the log popularity of `counts` int64 [I], and the weights at 1 / sqrt(count).

        The softmax of the biases alone gives each item its share of the counts, one added to each.
        """
        logs = (counts + 1.0).log()
        self.ids.weight[:, -1] = temperature * (logs - logs.mean())
        if self.item_weights:
            self.ids.weight[:, self.dimension] = -0.5 * counts.clamp(min=1).log()

    @torch.no_grad()
    def start_at(self, vectors: Tensor, weights: Tensor) -> None:
        """Start the id embeddings at `vectors` float32 [I, D], scaled to unit length. Items of a zero vector stay.

        With `item_weights`, a history's pooled vector then is parallel to the sum of weight float32 [I] * vector.
        """
        lengths = vectors.norm(dim=1)
        known = lengths > 0
        self.ids.weight[known, : self.dimension] = F.normalize(vectors[known], dim=1)
        if self.item_weights:
            logs = (weights[known] * lengths[known]).log()
            self.ids.weight[known, self.dimension] = logs - logs.mean()

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return rows float32 [C, W] of `items` int64 [C], or [I, W] of the catalogue."""
        rows = self._own_rows(items)
        if not self.near.shape[1]:
            return rows
        if items is None:
            mean: Tensor = _SparseProduct.apply(rows[:, : self.dimension], self.graph, self.graph_transpose)
        else:
            near, shares = self.near[items], self.shares[items]
            vectors = self._own_rows(near.flatten())[:, : self.dimension].view(*near.shape, -1)
            mean = (shares[:, :, None] * vectors).sum(dim=1)
        return rows + F.pad(NEIGHBOUR_FACTOR * mean, (0, self.item_weights + 1))

    def _own_rows(self, items: Tensor | None) -> Tensor:
        """Return `forward` without neighbours."""
        rows = self.ids.weight if items is None else self.ids(items)
        if self.content is not None:
            content = self.content(self.features if items is None else self.features[items])
            rows = rows + F.pad(content, (0, self.item_weights + 1))
        return rows

    def encoder_rows(self, rows: Tensor) -> Tensor:
        """Return float32 [C, W - 1]: the part of `rows` that the user encoder reads, all but the bias."""
        return rows[:, :-1]

    def scoring_parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (unit vectors float32 [C, D], biases float32 [C]) of `rows`."""
        return F.normalize(rows[:, : self.dimension], dim=-1), rows[:, -1]

    def scoring_rows(self, rows: Tensor) -> Tensor:
        """Return float32 [C, D + 1]: the unit vectors of `rows` with the bias as last column."""
        vectors, biases = self.scoring_parts(rows)
        return torch.cat([vectors, biases[:, None]], dim=1)


def feature_matrix(n_items: int, items: np.ndarray, offsets: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return int64 [I, K] of 1 + feature ids, NO_FEATURE where an item has fewer than K.

    The items int [N] with content have features[offsets[j] : offsets[j + 1]] each.
    """
    counts = np.diff(offsets)
    matrix = np.full((n_items, int(counts.max(initial=0))), NO_FEATURE, np.int64)
    column = np.arange(counts.sum()) - np.repeat(offsets[:-1] - offsets[0], counts)
    matrix[np.repeat(items, counts), column] = features + 1
    return matrix
