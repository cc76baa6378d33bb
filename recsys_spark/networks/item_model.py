"""The trained network as an item model: item vectors and the encoder's weights, memory-mapped; users are encoded with torch.

Shapes:  B users of a batch · L history window · D dimension · I items · C candidates a user
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from recsys_spark.columns import NETWORK
from recsys_spark.item_models import inner
from recsys_spark.item_models.base import ItemModel
from recsys_spark.item_models.histories import Histories
from recsys_spark.networks.encoder import UserEncoder
from recsys_spark.networks.item_tower import as_read, as_scored
from recsys_spark.networks.two_tower import Architecture, TwoTower

VECTORS, TABLE, ENCODER = "items", "table", "encoder."


class NetworkModel(ItemModel):
    """Scores are cosines of user and item vectors plus the item's bias.

    arrays: items float32 [I, D + 1] unit vectors and biases · table float32 [I, D], what the encoder reads of history items · encoder.* its weights.
    parameters: the architecture.
    """

    kind = NETWORK

    @classmethod
    def of(cls, network: TwoTower) -> NetworkModel:
        """The model of a trained network, its arrays copied."""
        with torch.no_grad():
            rows = network.items()
            arrays = {
                VECTORS: as_scored(rows),
                TABLE: as_read(rows),
                **{ENCODER + name: weight for name, weight in network.users.state_dict().items()},
            }
        plain = {name: np.array(tensor.detach().float().cpu(), order="C") for name, tensor in arrays.items()}
        return cls(network.architecture.n_items, network.architecture.as_parameters(), plain)

    @torch.no_grad()
    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [B, D + 1] unit vectors, and 1 for the bias. A user without history gets the same vector as any other without."""
        items, recency = histories.last(self.parameters["history_length"])
        users = self._encoder(_tensor(self.arrays[TABLE]), torch.from_numpy(items), torch.from_numpy(recency))
        return np.asarray(F.pad(F.normalize(users, dim=-1), (0, 1), value=1.0))

    def score_tile(self, encoded: Any, start: int, stop: int) -> np.ndarray:
        scores: np.ndarray = encoded @ np.asarray(self.arrays[VECTORS][start:stop]).T
        return scores

    def score_items(self, encoded: Any, items: np.ndarray) -> np.ndarray:
        return inner.pair_scores(encoded, self.arrays[VECTORS], items)

    def margins(self, encoded: Any) -> np.ndarray:
        return inner.margins(encoded, self._largest)

    @cached_property
    def _largest(self) -> float:
        return inner.largest_norm(self.arrays[VECTORS])

    @cached_property
    def _encoder(self) -> UserEncoder:
        # a Spark task has one core, and threads of several tasks would fight for it
        torch.set_num_threads(1)
        a = Architecture(**self.parameters)
        encoder = UserEncoder(
            length=a.history_length, dimension=a.dimension, hidden=a.hidden, heads=a.heads, dropout=0.0
        )
        weights = {
            name.removeprefix(ENCODER): _tensor(array)
            for name, array in self.arrays.items()
            if name.startswith(ENCODER)
        }
        encoder.load_state_dict(weights)
        return encoder.eval()


def _tensor(array: np.ndarray) -> torch.Tensor:
    """The array's memory as a tensor. torch has no read-only tensors and warns of the map; nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
