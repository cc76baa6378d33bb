"""The encoders `gru` and `lstm`: torch's layers, trained on whole histories.

GRU4Rec (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016) introduced them to recommendation. `torch.nn.GRU` and
`torch.nn.LSTM` document their equations. The user's vector is W_u h_t + b_u, where h_t is the last layer's state at the
newest item.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from recsys_spark.networks.sequence import SequenceEncoder


class RecurrentEncoder(SequenceEncoder):
    """`layers` recurrent layers of width `hidden`, and a product that maps their states to the items' dimension."""

    kind: ClassVar[type[nn.GRU | nn.LSTM]]

    def __init__(self, *, length: int, dimension: int, hidden: int, layers: int, dropout: float):
        super().__init__(length=length, dimension=dimension, dropout=dropout)
        between = dropout if layers > 1 else 0.0  # torch warns of dropout if there is only one layer
        self.layers = self.kind(dimension, hidden, layers, batch_first=True, dropout=between)
        self.outer = nn.Linear(hidden, dimension)

    def states(self, vectors: Tensor, places: Tensor) -> Tensor:
        hidden, _ = self.layers(vectors)
        states: Tensor = self.outer(self.dropout(hidden))
        return states


class GruEncoder(RecurrentEncoder):
    kind = nn.GRU


class LstmEncoder(RecurrentEncoder):
    kind = nn.LSTM
