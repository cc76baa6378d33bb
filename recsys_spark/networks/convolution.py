"""The encoder `conv`: causal dilated convolutions with residuals.

Source: NextItNet (Yuan, Karatzoglou, Arapakis, Jose & He, WSDM 2019). Block b = 0, 1, ... has two convolutions of
dilations d = 4^b and 2 * 4^b. With the layer norm n, and 0 before the first place:

    conv_d(x)_t = c + sum over k = 0, 1, 2 of W_k relu(n(x_(t - k d)))      x_t := x_t + conv_2d(conv_d(x))_t

The user's vector is n(x_t) of the newest item.

Shapes:  B users · l places · D dimension
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.networks.sequence import SequenceEncoder

KERNEL = 3
"""Number of places that a convolution joins."""


class ConvolutionEncoder(SequenceEncoder):
    """`layers` residual blocks of two convolutions. n blocks reach 2 (4^n - 1) places back."""

    cpu_chunk = 32

    def __init__(self, *, length: int, dimension: int, layers: int, dropout: float):
        super().__init__(length=length, dimension=dimension, dropout=dropout)
        self.blocks = nn.ModuleList(_Block(dimension, 4**block, dropout) for block in range(layers))
        self.norm = nn.LayerNorm(dimension)

    def states(self, vectors: Tensor, places: Tensor) -> Tensor:
        for block in self.blocks:
            vectors = block(vectors)
        states: Tensor = self.norm(vectors)
        return states


class _Block(nn.Module):
    def __init__(self, dimension: int, dilation: int, dropout: float):
        super().__init__()
        self.dilations = (dilation, 2 * dilation)
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in self.dilations)
        self.joins = nn.ModuleList(nn.Conv1d(dimension, dimension, KERNEL, dilation=d) for d in self.dilations)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return [B, l, D] of [B, l, D]."""
        inner = vectors
        for norm, join, dilation in zip(self.norms, self.joins, self.dilations, strict=True):
            before = (KERNEL - 1) * dilation
            inner = join(F.pad(norm(inner).relu().transpose(1, 2), (before, 0))).transpose(1, 2)
        return vectors + self.dropout(inner)
