"""The encoder `mlp`: heads that pool the window as a weighted set, joined by an MLP, as the watch history is averaged and read by one in YouTube's
candidate generation (Covington, Adams & Sargin, RecSys 2016), with learned weights instead of equal ones.

With p_h what pooling.py gives for head h, and p all of them beside each other, the user's vector is, n being the layer norm,

    n(W_s p + W_2 gelu(W_1 p + b_1) + b_2),      W_s p = the mean of the p_h and W_2 = 0 at the start.

Shapes:  B users · L history window · D dimension of the vectors · H pooling heads · R recency buckets · T targets
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.models.histories import RECENCY_BUCKETS
from recsys_spark.networks.encoder import Questions, UserEncoder, real, whole
from recsys_spark.networks.pooling import pool

SHARE_READ = 0.5
"""Of a user's items that are read when they are split; the others are the targets."""


class PooledEncoder(UserEncoder):
    """Each head pools the window with weights that it learns for places and recency buckets; an MLP joins the heads. The user's vector starts as the
    heads' mean, and the MLP at nothing.

    `split`: an example is a whole user, whose items are split at random whenever the user is met. The window is then a set, which one head
    pools, and the last column of the item rows [C, D + 1] is the logarithm of the item's weight. Otherwise an example is a target and the window
    before it.

    Padding has weight 0 and the place of an item is counted from the newest, so more padding never changes the vector.
    """

    def __init__(self, *, length: int, dimension: int, hidden: int, heads: int, dropout: float, split: bool = False):
        super().__init__()
        heads = 1 if split else heads
        self.heads = heads
        self.dropout = dropout
        self.split = split
        # a start at which the first head looks at the newest items and the last head at all of the window
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
        counts = real(items)
        if self.training and self.dropout > 0:
            counts = counts & (torch.rand(items.shape, device=items.device) >= self.dropout)
        with torch.autocast(table.device.type, enabled=False):  # it moves memory, so half precision would gain nothing
            place = self.place[:, -items.shape[1] :].float()
            pooled = pool(
                table.float(), items, recency, counts, place, self.recency.float(), weighed=self.split
            ).flatten(start_dim=1)
        inner = F.dropout(F.gelu(self.inner(pooled)), self.dropout, self.training)
        return self.norm(self.skip(pooled) + self.outer(inner))

    def questions(self, history: Tensor, recency: Tensor, newest: Tensor) -> Questions:
        if not self.split:
            rows = torch.arange(len(newest), device=newest.device)
            return Questions(history, recency, rows, newest.long(), torch.ones(len(rows), device=rows.device))
        items, recency = whole(history, recency, newest)
        read = _split(real(items))
        rows, places = (real(items) & ~read).nonzero(as_tuple=True)
        targets = items[rows, places].long()
        # who has more tells more: every target counts alike, not every user
        weights = torch.ones(len(targets), device=targets.device)
        return Questions((items * read)[:, 1:], recency[:, 1:], rows, targets, weights)


def _split(there: Tensor) -> Tensor:
    """bool [B, L + 1]: which of the items `there` are read: each with the same chance, but one at least, and not all. Never the first column's,
    since the window has L places."""
    draws = torch.rand(there.shape, device=there.device).masked_fill(~there, 2.0)
    draws[:, 0] = 1.0 + ~there[:, 0]
    least = draws.argmin(dim=1, keepdim=True)
    most = draws.masked_fill(~there, -1.0).argmax(dim=1, keepdim=True)
    return (draws < SHARE_READ).scatter(1, least, True).scatter(1, most, False)
