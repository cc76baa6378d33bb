"""The settings that fix the shapes of a network's weights, and the user encoders by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recsys_spark.columns import PER_TARGET, PER_USER
from recsys_spark.networks.attention import AttentionEncoder
from recsys_spark.networks.convolution import ConvolutionEncoder
from recsys_spark.networks.encoder import UserEncoder
from recsys_spark.networks.mlp import MlpEncoder
from recsys_spark.networks.recurrent import GruEncoder, LstmEncoder
from recsys_spark.networks.variational import VariationalEncoder


@dataclass(frozen=True)
class Architecture:
    """`encoder`, `layers` and `attention_heads` are keys of the config's train section, `examples` of features.

    `heads` is the number of pooling heads of the encoder `mlp`.
    """

    n_items: int
    n_features: int
    history_length: int
    dimension: int
    hidden: int
    heads: int
    encoder: str = "mlp"
    examples: str = PER_TARGET
    layers: int = 1
    attention_heads: int = 1

    def as_parameters(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def item_weights(self) -> bool:
        """Whether each item has a learned weight in the pooling of a history."""
        return self.encoder == "mlp" and self.examples == PER_USER

    def make_encoder(self, dropout: float) -> UserEncoder:
        """Return the user encoder with random weights from torch's generator."""
        shape: dict[str, Any] = {"length": self.history_length, "dimension": self.dimension, "dropout": dropout}
        hidden, layers = self.hidden, self.layers
        match self.encoder:
            case "mlp":
                return MlpEncoder(**shape, hidden=hidden, heads=self.heads, split=self.item_weights)
            case "vae":
                return VariationalEncoder(dimension=self.dimension, hidden=hidden, dropout=dropout)
            case "gru":
                return GruEncoder(**shape, hidden=hidden, layers=layers)
            case "lstm":
                return LstmEncoder(**shape, hidden=hidden, layers=layers)
            case "conv":
                return ConvolutionEncoder(**shape, layers=layers)
            case "attention":
                return AttentionEncoder(**shape, hidden=hidden, layers=layers, heads=self.attention_heads)
        raise ValueError(f"unknown user encoder {self.encoder!r}. Use one of mlp, vae, gru, lstm, conv, attention")
