"""The encoders `gru` and `lstm`: torch's, as in GRU4Rec (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016) but trained on whole histories.

Shapes:  B users · l places · D dimension of the vectors
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from recsys_spark.networks.sequence import SequenceEncoder


class RecurrentEncoder(SequenceEncoder):
    """`layers` recurrent layers of width `hidden`, and a product that brings their states to the items' dimension."""

    kind: ClassVar[type[nn.GRU | nn.LSTM]]

    def __init__(self, *, length: int, dimension: int, hidden: int, layers: int, dropout: float):
        super().__init__(length=length, dimension=dimension, dropout=dropout)
        between = dropout if layers > 1 else 0.0  # torch warns of a dropout between layers that are not there
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
