"""The trained network as an item model. Item vectors and encoder weights are memory-mapped; torch encodes users.

Shapes:  B users of a batch · L history window · D dimension · I items · C candidates of a user · R shortened histories
"""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from recsys_spark.columns import NETWORK, PADDING_ITEM
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.models.ragged import ranges
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.encoder import UserEncoder
from recsys_spark.networks.two_tower import TwoTower

USERS = 256
"""Number of users that are encoded at once."""
VECTORS, TABLE, ENCODER = "items", "table", "encoder."


class NetworkModel(InnerProductModel):
    """Scores are cosines of user and item vectors plus the item's bias.

    arrays: items float32 [I, D + 1], unit vectors and biases · table float32 [I, D or D + 1], the item rows that the
    encoder reads · encoder.*, its weights. parameters: the architecture.
    """

    kind = NETWORK

    @classmethod
    def of(cls, network: TwoTower) -> NetworkModel:
        """Return the model of a trained network, with copied arrays."""
        with torch.no_grad():
            rows = network.items()
            arrays = {
                VECTORS: network.items.scoring_rows(rows),
                TABLE: network.items.encoder_rows(rows),
                **{ENCODER + name: weight for name, weight in network.users.state_dict().items()},
            }
        plain = {name: np.array(tensor.detach().float().cpu(), order="C") for name, tensor in arrays.items()}
        return cls(network.architecture.n_items, network.architecture.as_parameters(), plain)

    @torch.no_grad()
    def encode(self, histories: Histories) -> np.ndarray:
        """Return float32 [B, D + 1]: unit vectors, and 1 as the factor of the bias.

        All users without history have the same vector.
        """
        items, recency = (torch.from_numpy(array) for array in histories.last(self.parameters["history_length"]))
        encoded = np.ones((len(histories), self.vectors.shape[1]), np.float32)
        for start in range(0, len(histories), USERS):
            part = slice(start, start + USERS)
            users = self._encoder(_tensor(self.arrays[TABLE]), items[part], recency[part])
            encoded[part, :-1] = F.normalize(users, dim=-1).numpy()
        return encoded

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the window's item whose removal lowers the score most, int32 [B, C].

        Each item is left out in turn and the user encoded again. This is exact for every encoder and costs one encoding
        for each item of the windows.
        """
        explained = np.zeros(items.shape, np.int32)
        to_explain = np.flatnonzero(items.any(axis=1))
        for start in range(0, len(to_explain), USERS):
            users = to_explain[start : start + USERS]
            explained[users] = self._most_influential(histories.take(users), encoded[users], items[users])
        return np.where(items == PADDING_ITEM, items, explained)

    def _most_influential(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return int32 [B, C]: the item whose removal lowers the score most, 0 where no removal lowers it."""
        length = self.parameters["history_length"]
        shortened, users, newer, removed = _leave_one_out(histories, length)
        losses = np.zeros((len(items), length, items.shape[1]), np.float32)
        scores = self.score_items(encoded, items)[users]
        losses[users, newer] = scores - self.score_items(self.encode(shortened), items[users])
        window = np.zeros((len(items), length), np.int32)
        window[users, newer] = removed
        # the newest item is first, so argmax takes the newest of equal losses
        best = np.take_along_axis(window, losses.argmax(axis=1), axis=1)
        return np.where(losses.max(axis=1) > 0, best, np.int32(PADDING_ITEM))

    @cached_property
    def _encoder(self) -> UserEncoder:
        # a Spark task has one core, and the threads of several tasks would compete for it
        torch.set_num_threads(1)
        encoder = Architecture(**self.parameters).make_encoder(dropout=0.0)
        weights = {
            name.removeprefix(ENCODER): _tensor(array)
            for name, array in self.arrays.items()
            if name.startswith(ENCODER)
        }
        encoder.load_state_dict(weights)
        return encoder.eval()


def _leave_one_out(histories: Histories, length: int) -> tuple[Histories, np.ndarray, np.ndarray, np.ndarray]:
    """Return (R histories, users, newer, removed): each of the newest `length` items of each user left out in turn.

    users int64 [R] is the user of each, newer int64 [R] the number of newer items, removed int32 [R] the item that is
    left out. Histories are cut to the items that a window can show.
    """
    kept, counts = (np.minimum(histories.lengths(), n) for n in (length + 1, length))
    users = np.repeat(np.arange(len(counts)), counts)
    newer = ranges(np.zeros(len(counts), np.int64), counts)
    at = ranges((histories.indptr[1:] - kept)[users], kept[users])
    out = np.cumsum(kept[users]) - 1 - newer
    rest = np.delete(at, out)
    indptr = np.concatenate([[0], np.cumsum(kept[users] - 1)]).astype(np.int64)
    columns = (histories.items[rest], histories.times[rest], histories.weights[rest])
    return Histories(indptr, *columns, [None] * len(users)), users, newer, histories.items[at[out]]


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Return the array's memory as a tensor. torch warns of a read-only map, but nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
