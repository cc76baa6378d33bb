"""The item tower: an item's vector out of its id and its content, a bias for how often it is taken, and how much it says of its users.

Shapes:  I items counting the padding item 0 · D dimension · C items asked for · K most content features an item has · N most neighbours
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NO_FEATURE = 0
OWN_PART = 0.16
"""Length, at the start, of what an item with content has of its own: an item that is rarely seen keeps to its content."""
NEIGHBOURS_WEIGH = 10.0
"""What an item's neighbours together add to its vector, beside its own part."""


class _Product(torch.autograd.Function):
    """A sparse matrix times `vectors`. Its transpose, at hand, takes the gradient back."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        with torch.autocast(vectors.device.type, enabled=False):
            return matrix @ vectors.float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ gradient.float(), None, None


def _and_transposed(columns: Tensor, values: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The sparse matrix [I, width] with `values` float32 [I, N] in `columns` int64 [I, N] of its rows, where they are above 0, and its transpose."""
    filled = values > 0
    places = torch.stack([filled.nonzero()[:, 0], columns[filled]])
    matrix = torch.sparse_coo_tensor(places, values[filled], (len(columns), width), check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
        return matrix.to_sparse_csr(), matrix.T.to_sparse_csr()


class ItemTower(nn.Module):
    """Rows of the vector, with `weighed` the logarithm of the item's weight in a history, and the bias, as many as W numbers.

    An item's own part is the id embedding plus the mean of the embeddings of its content features, when there are any. The vector is that, and with
    neighbours NEIGHBOURS_WEIGH times the mean of their own parts besides: one hop over the graph of items, as LightGCN (He et al., SIGIR 2020)
    makes two over the graph of users and items, each time it is asked.
    """

    def __init__(self, *, n_items: int, n_features: int, dimension: int, sparse: bool, weighed: bool = False):
        super().__init__()
        self.dimension = dimension
        self.weighed = weighed
        # bias and weight stand in the same table, so that one gradient carries all
        self.ids = nn.Embedding(n_items, dimension + weighed + 1, sparse=sparse)
        length = OWN_PART if n_features else 1.0
        nn.init.normal_(self.ids.weight, std=length * dimension**-0.5)
        self.content: nn.EmbeddingBag | None = None
        if n_features:
            self.content = nn.EmbeddingBag(1 + n_features, dimension, mode="mean", padding_idx=NO_FEATURE)
            nn.init.zeros_(self.content.weight)
        # what items there are, not what was learned: travels with the data, not with the weights
        self.register_buffer("features", torch.zeros(n_items, 0, dtype=torch.int64), persistent=False)
        self.register_buffer("near", torch.zeros(n_items, 0, dtype=torch.int64), persistent=False)
        self.register_buffer("shares", torch.zeros(n_items, 0), persistent=False)
        for name in ("given", "taken"):
            self.register_buffer(name, None, persistent=False)
        # what `features` come to as a product, and back; for the processor, so they stay with it
        self.means: tuple[Tensor, ...] = ()
        self.set_features(self.features)

    def set_features(self, features: Tensor) -> None:
        """Take the items' content: int64 [I, K] as `feature_matrix` makes it. `ValueError` for a feature that the network has not."""
        self.features = features.to(self.ids.weight.device)
        if self.content is not None:
            if features.numel() and int(features.max()) >= len(self.content.weight):
                raise ValueError(
                    f"feature {int(features.max()) - 1} of an item is none of the network's {len(self.content.weight) - 1}"
                )
            there = features != NO_FEATURE
            shares = there / there.sum(dim=1, keepdim=True)
            self.means = _and_transposed(features, shares, len(self.content.weight))

    def set_neighbours(self, near: Tensor, shares: Tensor) -> None:
        """Take the items whose vectors join an item's own: `near` int64 [I, N], 0-padded, and `shares` float32 [I, N], which sum to 1, or to 0 where
        an item has none."""
        device = self.ids.weight.device
        matrices = _and_transposed(near, shares, len(near))
        self.near, self.shares, self.given, self.taken = (t.to(device) for t in (near, shares, *matrices))

    @torch.no_grad()
    def set_popularity(self, counts: Tensor, temperature: float) -> None:
        """Start the biases where the softmax of nobody in particular gives each item its share of `counts` (int64 [I]), one added to each; and
        the weights at one over the root of the counts, for what everybody has tells little of a user."""
        logs = (counts + 1.0).log()
        self.ids.weight[:, -1] = temperature * (logs - logs.mean())
        if self.weighed:
            self.ids.weight[:, self.dimension] = -0.5 * counts.clamp(min=1).log()

    @torch.no_grad()
    def start_at(self, vectors: Tensor, weights: Tensor) -> None:
        """Begin at `vectors` float32 [I, D], each turned into one of unit length, and, with `weighed`, at the weights that a sum of weights float32
        [I] times `vectors` gives these. An item whose vector is zero keeps what it has."""
        lengths = vectors.norm(dim=1)
        known = lengths > 0
        self.ids.weight[known, : self.dimension] = F.normalize(vectors[known], dim=1)
        if self.weighed:
            logs = (weights[known] * lengths[known]).log()
            self.ids.weight[known, self.dimension] = logs - logs.mean()

    def forward(self, items: Tensor | None = None) -> Tensor:
        """float32 [C, W] rows of `items` (int64 [C]), or [I, W] of all of them."""
        rows = self._own(items)
        if not self.near.shape[1]:
            return rows
        if items is None:
            mean: Tensor = _Product.apply(rows[:, : self.dimension], self.given, self.taken)
        else:
            near, shares = self.near[items], self.shares[items]
            vectors = self._own(near.flatten())[:, : self.dimension].view(*near.shape, -1)
            mean = (shares[:, :, None] * vectors).sum(dim=1)
        return rows + F.pad(NEIGHBOURS_WEIGH * mean, (0, self.weighed + 1))

    def _own(self, items: Tensor | None) -> Tensor:
        """`forward` without neighbours."""
        rows = self.ids.weight if items is None else self.ids(items)
        if self.content is not None:
            if items is None and not rows.is_cuda:  # less than half of the time that the embeddings take
                content = _Product.apply(self.content.weight, *self.means)
            else:
                content = self.content(self.features if items is None else self.features[items])
            rows = rows + F.pad(content, (0, self.weighed + 1))
        return rows

    def as_read(self, rows: Tensor) -> Tensor:
        """float32 [C, W - 1]: `rows` as the user encoder reads them in a history: the vector and, with `weighed`, the weight's logarithm."""
        return rows[:, :-1]

    def as_scored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`rows` as users are scored against: unit vectors float32 [C, D] and biases float32 [C]."""
        return F.normalize(rows[:, : self.dimension], dim=-1), rows[:, -1]

    def as_one(self, rows: Tensor) -> Tensor:
        """float32 [C, D + 1]: `rows` as users are scored against, the bias beside the vector."""
        vectors, biases = self.as_scored(rows)
        return torch.cat([vectors, biases[:, None]], dim=1)


def feature_matrix(n_items: int, items: np.ndarray, offsets: np.ndarray, features: np.ndarray) -> np.ndarray:
    """int64 [I, K] of 1 + feature ids, NO_FEATURE where an item has fewer than K.

    The items int [N] with content have features[offsets[j] : offsets[j + 1]] each.
    """
    counts = np.diff(offsets)
    matrix = np.full((n_items, int(counts.max(initial=0))), NO_FEATURE, np.int64)
    column = np.arange(counts.sum()) - np.repeat(offsets[:-1] - offsets[0], counts)
    matrix[np.repeat(items, counts), column] = features + 1
    return matrix
