"""The trained network as an item model: item vectors and the encoder's weights, memory-mapped; users are encoded with torch.

Shapes:  B users of a batch · L history window · D dimension · I items · C candidates a user · R histories with an item left out
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
"""Users who are encoded at a time."""
VECTORS, TABLE, ENCODER = "items", "table", "encoder."


class NetworkModel(InnerProductModel):
    """Scores are cosines of user and item vectors plus the item's bias.

    arrays: items float32 [I, D + 1] unit vectors and biases · table float32 [I, D or D + 1], what the encoder reads of history items · encoder.* its weights.
    parameters: the architecture.
    """

    kind = NETWORK

    @classmethod
    def of(cls, network: TwoTower) -> NetworkModel:
        """The model of a trained network, its arrays copied."""
        with torch.no_grad():
            rows = network.items()
            arrays = {
                VECTORS: network.items.as_one(rows),
                TABLE: network.items.as_read(rows),
                **{ENCODER + name: weight for name, weight in network.users.state_dict().items()},
            }
        plain = {name: np.array(tensor.detach().float().cpu(), order="C") for name, tensor in arrays.items()}
        return cls(network.architecture.n_items, network.architecture.as_parameters(), plain)

    @torch.no_grad()
    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [B, D + 1] unit vectors, and 1 for the bias. A user without history gets the same vector as any other without."""
        items, recency = histories.last(self.parameters["history_length"])
        encoded = np.ones((len(histories), self.vectors.shape[1]), np.float32)
        for lo in range(0, len(histories), USERS):
            # always so many rows: a product of matrices rounds by the shape of the batch
            part, n = slice(lo, lo + USERS), min(USERS, len(histories) - lo)
            window, gaps = (torch.from_numpy(np.pad(rows[part], ((0, USERS - n), (0, 0)))) for rows in (items, recency))
            users = F.normalize(self._encoder(_tensor(self.arrays[TABLE]), window, gaps), dim=-1)
            encoded[part, :-1] = users[:n].numpy()
        return encoded

    def reasons(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The item of the window whose loss would cost the score most: each is left out in turn and the user encoded anew, which is exact for
        every encoder. It costs as many encodings as the windows of the users who are asked about have items."""
        found = np.zeros(items.shape, np.int32)
        asked = np.flatnonzero(items.any(axis=1))
        for start in range(0, len(asked), USERS):
            users = asked[start : start + USERS]
            found[users] = self._dearest(histories.take(users), encoded[users], items[users])
        return np.where(items == PADDING_ITEM, items, found)

    def _dearest(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """int32 [B, C]: of the window's items the one whose loss costs most, 0 where no loss costs anything."""
        length = self.parameters["history_length"]
        poorer, users, back, lost = _each_left_out(histories, length)
        costs = np.zeros((len(items), length, items.shape[1]), np.float32)
        scores = self.score_items(encoded, items)[users]
        costs[users, back] = scores - self.score_items(self.encode(poorer), items[users])
        window = np.zeros((len(items), length), np.int32)
        window[users, back] = lost
        # the newest stands first, and the first of equals is taken
        dearest = np.take_along_axis(window, costs.argmax(axis=1), axis=1)
        return np.where(costs.max(axis=1) > 0, dearest, np.int32(PADDING_ITEM))

    @cached_property
    def _encoder(self) -> UserEncoder:
        # a Spark task has one core, and threads of several tasks would fight for it
        torch.set_num_threads(1)
        encoder = Architecture(**self.parameters).make_encoder(dropout=0.0)
        weights = {
            name.removeprefix(ENCODER): _tensor(array)
            for name, array in self.arrays.items()
            if name.startswith(ENCODER)
        }
        encoder.load_state_dict(weights)
        return encoder.eval()


def _each_left_out(histories: Histories, length: int) -> tuple[Histories, np.ndarray, np.ndarray, np.ndarray]:
    """(histories of R users, users, back, items): each of the newest `length` items of each user left out in turn. users int64 [R] says whose
    it was, back int64 [R] how many were newer, items int32 [R] what it was. Of a history no more is kept than a window can show."""
    kept, counts = (np.minimum(histories.lengths(), n) for n in (length + 1, length))
    users = np.repeat(np.arange(len(counts)), counts)
    back = ranges(np.zeros(len(counts), np.int64), counts)
    at = ranges((histories.indptr[1:] - kept)[users], kept[users])
    out = np.cumsum(kept[users]) - 1 - back
    rest = np.delete(at, out)
    indptr = np.concatenate([[0], np.cumsum(kept[users] - 1)]).astype(np.int64)
    columns = (histories.items[rest], histories.times[rest], histories.weights[rest])
    return Histories(indptr, *columns, [None] * len(users)), users, back, histories.items[at[out]]


def _tensor(array: np.ndarray) -> torch.Tensor:
    """The array's memory as a tensor. torch has no read-only tensors and warns of the map; nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
