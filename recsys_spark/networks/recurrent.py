"""The encoders `gru` and `lstm`: torch's, as in GRU4Rec (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016) but trained on whole histories.

With x_t the vector of the item at place t, s the logistic function and * place by place, a layer's states are, for `gru` (Cho et al., EMNLP 2014)

    r_t = s(W_r x_t + U_r h_(t-1) + b_r)      z_t = s(W_z x_t + U_z h_(t-1) + b_z)
    n_t = tanh(W_n x_t + b_n + r_t * (U_n h_(t-1) + c_n))      h_t = (1 - z_t) * n_t + z_t * h_(t-1)

and for `lstm` (Hochreiter & Schmidhuber, Neural Computation 1997; Gers et al. 2000 for the forget gate)

    i_t, f_t, o_t = s(W x_t + U h_(t-1) + b), each with its own      g_t = tanh(W_g x_t + U_g h_(t-1) + b_g)
    c_t = f_t * c_(t-1) + i_t * g_t      h_t = o_t * tanh(c_t)

and the user's vector is W_u h_t + b_u of the last layer and the newest item.

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
