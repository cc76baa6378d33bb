"""The user tower: a user's vector out of the newest items of their history.

Shapes:  B users · L history window · D dimension of the vectors · H pooling heads · R recency buckets
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.item_models.histories import RECENCY_BUCKETS
from recsys_spark.networks.pooling import pool


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
        counts = items != PADDING_ITEM
        if self.training and self.dropout > 0:
            counts = counts & (torch.rand(items.shape, device=items.device) >= self.dropout)
        with torch.autocast(
            table.device.type, enabled=False
        ):  # it moves memory, so half precision would gain nothing
            place = self.place[:, -items.shape[1] :].float()
            pooled = pool(table.float(), items, recency, counts, place, self.recency.float()).flatten(
                start_dim=1
            )
        inner = F.dropout(F.gelu(self.inner(pooled)), self.dropout, self.training)
        return self.norm(self.skip(pooled) + self.outer(inner))
