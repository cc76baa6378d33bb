"""The encoder `vae`: the multinomial variational autoencoder (Liang, Krishnan, Hoffman & Jebara, WWW 2018).

It works on item vectors: the decoder is the table of scored items. In training the user's vector is drawn from a
normal distribution, afterwards it is the mean. With x the sum of a user's n item vectors over sqrt(n), e standard
normal, t the temperature, y_i the unit vector of item i and b_i its bias (losses.py, two_tower.py):

    (m, log v) = W_2 tanh(W_1 x + b_1) + b_2      z = m + sqrt(v) * e
    loss = - sum over the user's items i of log softmax_i((z . y_i / |z| + b_i) / t)
           + kl_weight * sum of (v + m^2 - 1 - log v) / 2

Shapes:  B users · L history window · D dimension · T targets
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.networks.encoder import TrainingBatch, UserEncoder, append_newest, is_item


class VariationalEncoder(UserEncoder):
    """Reads all items of a user, of which dropout removes some, and has to predict all of them."""

    def __init__(self, *, dimension: int, hidden: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.inner = nn.Linear(dimension, hidden)
        self.outer = nn.Linear(hidden, 2 * dimension)

    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        mean, _ = self._distribution(table, items)
        return mean

    def training_batch(self, history: Tensor, recency: Tensor, newest: Tensor) -> TrainingBatch:
        items, recency = append_newest(history, recency, newest)
        rows, places = is_item(items).nonzero(as_tuple=True)
        weights = torch.ones(len(rows), device=rows.device)
        return TrainingBatch(items[:, 1:], recency[:, 1:], rows, items[rows, places].long(), weights)

    def encode_batch(self, table: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        mean, log_variance = self._distribution(table, batch.items)
        divergence = (log_variance.exp() + mean.square() - 1 - log_variance).sum() / 2
        return mean + (log_variance / 2).exp() * torch.randn_like(mean), divergence

    def _distribution(self, table: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, log variance), both float32 [B, D]."""
        there = is_item(items)
        kept, scale = there, there.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()
        if self.training and self.dropout > 0:
            kept = there & (torch.rand(items.shape, device=items.device) >= self.dropout)
            scale = scale / (1 - self.dropout)
        with torch.autocast(table.device.type, enabled=False):
            sums = torch.bmm(kept[:, None].float(), F.embedding(items, table.float()))[:, 0]
        mean, log_variance = self.outer(self.inner(sums * scale).tanh()).float().chunk(2, dim=1)
        return mean, log_variance
