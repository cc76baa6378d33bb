"""The encoder `attention`: causal self-attention.

Source: SASRec (Kang & McAuley, ICDM 2018), with the layer norms before the blocks (Xiong et al., ICML 2020). x_t starts
as the vector of the item at place t plus that of the place. With the layer norm n, and queries, keys and values q, k, v
of each of the A heads as products of n(x), a block is

    x_t := x_t + W_o [sum over t' <= t of softmax over t' of (q_t . k_t' / sqrt(D / A)) v_t', the heads side by side]
    x_t := x_t + W_2 gelu(W_1 n(x_t) + b_1) + b_2

The user's vector is n(x_t) of the newest item.

Shapes:  B users · l places · D dimension · A attention heads
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.networks.sequence import SequenceEncoder

PLACE_STD = 0.02
"""Standard deviation of the place vectors at the start. Item vectors have length 1 then. SASRec multiplies them by the
root of the dimension, but then the newest item hides the output of the blocks and training starts slowly."""


class AttentionEncoder(SequenceEncoder):
    """`layers` blocks of causal self-attention and a feed-forward layer of width `hidden`, with learned places."""

    cpu_chunk = 32

    def __init__(self, *, length: int, dimension: int, hidden: int, layers: int, heads: int, dropout: float):
        super().__init__(length=length, dimension=dimension, dropout=dropout)
        self.place = nn.Embedding(length, dimension)
        nn.init.normal_(self.place.weight, std=PLACE_STD)
        self.blocks = nn.ModuleList(_Block(dimension, hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension)

    def states(self, vectors: Tensor, places: Tensor) -> Tensor:
        vectors = vectors + self.place(places)
        for block in self.blocks:
            vectors = block(vectors)
        states: Tensor = self.norm(vectors)
        return states


class _Block(nn.Module):
    def __init__(self, dimension: int, hidden: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in range(2))
        self.attended = nn.Linear(dimension, 3 * dimension)
        self.joined = nn.Linear(dimension, dimension)
        self.inner = nn.Linear(dimension, hidden)
        self.outer = nn.Linear(hidden, dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return [B, l, D] of [B, l, D]."""
        vectors = vectors + self.dropout(self.joined(self._attention(self.norms[0](vectors))))
        return vectors + self.dropout(self.outer(F.gelu(self.inner(self.norms[1](vectors)))))

    def _attention(self, vectors: Tensor) -> Tensor:
        parts = self.attended(vectors).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # a CPU takes twice as long for it in bfloat16
        kind = parts.dtype if vectors.is_cuda else torch.float32
        with torch.autocast(vectors.device.type, enabled=False):
            queries, keys, values = parts.to(kind)
            joined = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return joined.transpose(1, 2).flatten(2)
