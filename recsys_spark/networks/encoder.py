"""The user tower: a user's vector out of the newest items of their history.

Shapes:  B users · L history window · D dimension of the vectors · H pooling heads · R recency buckets
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.item_models.histories import RECENCY_BUCKETS


class UserEncoder(nn.Module):
    """Each head pools the window with weights that it learns for places and recency buckets; an MLP joins the heads.

    Padding has weight 0 and the place of an item is counted from the newest, so more padding never changes the vector.
    """

    def __init__(self, *, length: int, dimension: int, hidden: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        # a start at which the first head looks at the newest items and the last head at all of the window
        slopes = torch.logspace(0, -3, heads)
        self.place = nn.Parameter(-slopes[:, None] * torch.arange(length - 1, -1, -1.0))
        self.recency = nn.Parameter(torch.zeros(heads, RECENCY_BUCKETS))
        self.inner = nn.Linear(heads * dimension, hidden)
        self.outer = nn.Linear(hidden, dimension)
        self.skip = nn.Linear(heads * dimension, dimension, bias=False)
        self.norm = nn.LayerNorm(dimension)

    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        """float32 [B, D]: users out of the windows `items` and `recency` (int [B, L]) and the item vectors `table` [I, D]."""
        weights = self._weights(items, recency)
        with torch.autocast(
            table.device.type, enabled=False
        ):  # it moves memory, so half precision would gain nothing
            pooled = _Pool.apply(table.float(), items, weights.float()).flatten(start_dim=1)
        inner = F.dropout(F.gelu(self.inner(pooled)), self.dropout, self.training)
        return self.norm(self.skip(pooled) + self.outer(inner))

    def _weights(self, items: Tensor, recency: Tensor) -> Tensor:
        """float32 [B, H, L]: what each head takes of each place; sums to 1 over the items that count, 0 when there are none."""
        real = items != PADDING_ITEM
        if self.training and self.dropout > 0:
            real = real & (torch.rand(items.shape, device=items.device) >= self.dropout)
        logits = self.place[:, -items.shape[1] :] + self.recency.T[recency].transpose(1, 2)
        logits = logits.masked_fill(~real[:, None], -1e4)
        return (logits.softmax(dim=-1) * real[:, None]).contiguous()


class _Pool(torch.autograd.Function):
    """float32 [B, H, D]: sums of the rows `items` (int [B, L]) of `table` [I, D], with the `weights` [B, H, L].

    All heads share one look at the table, and one row of gradient for each place; torch's bags take one of each for every head.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, items: Tensor, weights: Tensor) -> Tensor:
        vectors = F.embedding(items, table)
        ctx.save_for_backward(items, weights, vectors)
        ctx.rows = len(table)
        return torch.bmm(weights, vectors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        items, weights, vectors = ctx.saved_tensors
        by_weight = torch.bmm(gradient, vectors.transpose(1, 2))
        by_place = torch.bmm(weights.transpose(1, 2), gradient).flatten(end_dim=1)
        by_row = by_place.new_zeros(ctx.rows, vectors.shape[2])
        return by_row.index_add_(0, items.flatten(), by_place), None, by_weight
