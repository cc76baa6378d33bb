"""The encoder `vae`: the multinomial variational autoencoder of Liang, Krishnan, Hoffman & Jebara (WWW 2018), over item vectors.

The decoder is the shared table of scored items, and the user's vector is drawn from a normal distribution while training, its mean afterwards.

With x the sum of a user's n item vectors over sqrt(n), e drawn from the standard normal distribution, and t the temperature,

    (m, log v) = W_2 tanh(W_1 x + b_1) + b_2      z = m + sqrt(v) * e
    loss = - sum over the user's items i of log softmax_i(z . y_i / |z| / t + b_i / t) + kl_weight * sum of (v + m^2 - 1 - log v) / 2

where y_i is the unit vector of an item and b_i its bias (losses.py, two_tower.py).

Shapes:  B users · L history window · D dimension of the vectors · T targets
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_spark.models.histories import RECENCY_BUCKETS
from recsys_spark.networks.encoder import Questions, UserEncoder, real, whole
from recsys_spark.networks.pooling import pool


class VariationalEncoder(UserEncoder):
    """Mean and log variance of the user's vector out of the sum of the items' vectors over the root of their number, of which some are
    dropped. A whole user is asked for all of their items."""

    place: Tensor
    recency: Tensor

    def __init__(self, *, length: int, dimension: int, hidden: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.inner = nn.Linear(dimension, hidden)
        self.outer = nn.Linear(hidden, 2 * dimension)
        # a set has neither places nor recency
        self.register_buffer("place", torch.zeros(1, length), persistent=False)
        self.register_buffer("recency", torch.zeros(1, RECENCY_BUCKETS), persistent=False)

    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        mean, _ = self._distribution(table, items, recency)
        return mean

    def questions(self, history: Tensor, recency: Tensor, newest: Tensor) -> Questions:
        items, recency = whole(history, recency, newest)
        rows, places = real(items).nonzero(as_tuple=True)
        weights = torch.ones(len(rows), device=rows.device)
        return Questions(items[:, 1:], recency[:, 1:], rows, items[rows, places].long(), weights)

    def answers(self, table: Tensor, questions: Questions) -> tuple[Tensor, Tensor]:
        mean, log_variance = self._distribution(table, questions.items, questions.recency)
        # of one normal distribution from the standard one
        divergence = (log_variance.exp() + mean.square() - 1 - log_variance).sum() / 2
        return mean + (log_variance / 2).exp() * torch.randn_like(mean), divergence

    def _distribution(self, table: Tensor, items: Tensor, recency: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log variance), both float32 [B, D]."""
        there = real(items)
        kept, scale = there, there.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()
        if self.training and self.dropout > 0:
            kept = there & (torch.rand(items.shape, device=items.device) >= self.dropout)
            scale = scale / (1 - self.dropout)
        with torch.autocast(table.device.type, enabled=False):
            place = self.place[:, -items.shape[1] :]
            means = pool(table.float(), items, recency, kept, place, self.recency)[:, 0]
        bag = means * kept.sum(dim=1, keepdim=True) * scale
        mean, log_variance = self.outer(self.inner(bag).tanh()).float().chunk(2, dim=1)
        return mean, log_variance
