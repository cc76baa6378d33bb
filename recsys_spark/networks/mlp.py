"""The encoder `mlp`: attention heads pool the window, and a multilayer perceptron joins them.

YouTube's candidate generation (Covington, Adams & Sargin, RecSys 2016) averages the watch history and feeds it to a
perceptron. Here each head h learns weights for the average. With place l, recency bucket r_l and vector v_l of an item,
n the layer norm, and p all p_h side by side:

    p_h = sum over l of softmax over l of (place[h, l] + bucket[h, r_l]) v_l
    user vector = n(W_s p + W_2 gelu(W_1 p + b_1) + b_2),      at the start W_s p = the mean of the p_h and W_2 = 0

Shapes:  B users · L history window · D dimension · H pooling heads · T targets
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.models.histories import RECENCY_BUCKETS
from recsys_spark.networks.encoder import TrainingBatch, UserEncoder, append_newest, is_item

INPUT_SHARE = 0.5
"""Share of a user's items that are encoded when they are split. The others are the targets."""


class MlpEncoder(UserEncoder):
    """Pools the window with learned weights of places and recency buckets.

    `split`: an example is a whole user. Their items are split at random into inputs and targets each time the user is
    read. The inputs are a set, which one head pools. The last column of the item rows [C, D + 1] is added to the logits
    of the pooling. Without `split` an example is a target and the window before it.

    Places are counted from the newest item, and padding has weight 0.
    """

    def __init__(self, *, length: int, dimension: int, hidden: int, heads: int, dropout: float, split: bool = False):
        super().__init__()
        heads = 1 if split else heads
        self.heads = heads
        self.dropout = dropout
        self.split = split
        # at the start the first head reads the newest items and the last head the whole window
        slopes = torch.zeros(1) if split else torch.logspace(0, -3, heads)
        self.place = nn.Parameter(-slopes[:, None] * torch.arange(length - 1, -1, -1.0), not split)
        self.recency = nn.Parameter(torch.zeros(heads, RECENCY_BUCKETS), not split)
        self.inner = nn.Linear(heads * dimension, hidden)
        self.outer = nn.Linear(hidden, dimension)
        self.skip = nn.Linear(heads * dimension, dimension, bias=False)
        self.norm = nn.LayerNorm(dimension)
        with torch.no_grad():
            self.skip.weight.copy_(torch.eye(dimension).repeat(1, heads) / heads)
            self.outer.weight.zero_()
            self.outer.bias.zero_()

    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        with torch.autocast(table.device.type, enabled=False):  # it moves memory, so half precision would gain nothing
            pooled = self._pool(table.float(), items, recency).flatten(start_dim=1)
        inner = F.dropout(F.gelu(self.inner(pooled)), self.dropout, self.training)
        return self.norm(self.skip(pooled) + self.outer(inner))

    def _pool(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        """Return the pooled vectors float32 [B, H, D], 0 for a window without items."""
        counted = is_item(items)
        if self.training and self.dropout > 0:
            counted = counted & (torch.rand(items.shape, device=items.device) >= self.dropout)
        # gather is four times as fast as an embedding of the buckets, whose rows have only H numbers
        buckets = self.recency.expand(len(items), -1, -1)
        by_recency = buckets.gather(2, recency.long()[:, None].expand(-1, self.heads, -1))
        logits = self.place[:, -items.shape[1] :] + by_recency
        vectors = table
        if self.split:
            logits, vectors = logits + F.embedding(items, table[:, -1:]).transpose(1, 2), table[:, :-1].contiguous()
        logits = logits.masked_fill(~counted[:, None], torch.finfo(logits.dtype).min)
        weights = logits.softmax(dim=-1) * counted[:, None]
        # a weighted bag of each head sums the rows of the table without a copy of them, which takes half of the time
        bags = items[:, None].expand(-1, self.heads, -1).flatten(end_dim=1)
        pooled = F.embedding_bag(bags, vectors, mode="sum", per_sample_weights=weights.flatten(end_dim=1))
        return pooled.view(len(items), self.heads, -1)

    def training_batch(self, history: Tensor, recency: Tensor, newest: Tensor) -> TrainingBatch:
        if not self.split:
            rows = torch.arange(len(newest), device=newest.device)
            return TrainingBatch(history, recency, rows, newest.long(), torch.ones(len(rows), device=rows.device))
        items, recency = append_newest(history, recency, newest)
        there = is_item(items)
        inputs = _draw_inputs(there)
        rows, places = (there & ~inputs).nonzero(as_tuple=True)
        targets = items[rows, places].long()
        # each target has the same weight, not each user: longer histories tell more
        weights = torch.ones(len(targets), device=targets.device)
        return TrainingBatch((items * inputs)[:, 1:], recency[:, 1:], rows, targets, weights)


def _draw_inputs(there: Tensor) -> Tensor:
    """Return bool [B, L + 1]: which of the items `there` are inputs, at least one and not all of each user.

    The first column has no input, because a window has L places.
    """
    draws = torch.rand(there.shape, device=there.device).masked_fill(~there, 2.0)
    draws[:, 0] = 1.0 + ~there[:, 0]
    least = draws.argmin(dim=1, keepdim=True)
    most = draws.masked_fill(~there, -1.0).argmax(dim=1, keepdim=True)
    return (draws < INPUT_SHARE).scatter(1, least, True).scatter(1, most, False)
