"""The common part of the sequence encoders: a causal network gives a state at each place, which predicts the next item.

Windows are shifted to the left, so that padding comes after the items and causality hides it.

Shapes:  B users · L history window · l items of the longest history in a chunk · D dimension · R = T items of all users
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.networks.encoder import TrainingBatch, UserEncoder, append_newest, is_item


class SequenceEncoder(UserEncoder):
    """The state of the newest item is the user's vector. In training every state predicts the item that follows."""

    cpu_chunk: int | None = None
    """Number of users that a CPU encodes together in training, so that they fit its cache. None: the whole batch."""

    def __init__(self, *, length: int, dimension: int, dropout: float):
        super().__init__()
        self.length = length
        self.dropout = nn.Dropout(dropout)

    @abstractmethod
    def states(self, vectors: Tensor, places: Tensor) -> Tensor:
        """Return states [B, l, D] of `vectors` [B, l, D]. A state depends on the vectors up to its own place only.

        `places` int64 [B, l] are counted so that the newest item of a user is at length - 1.
        """

    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        states, lengths = self._read(table, items)
        last = states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)].float()
        return last * (lengths > 0)[:, None]  # users without history all have the same vector

    def training_batch(self, history: Tensor, recency: Tensor, newest: Tensor) -> TrainingBatch:
        # sorted by length, so that a chunk has little padding
        order = is_item(history).sum(dim=1).argsort(stable=True)
        items, _ = append_newest(history, recency, newest)
        items, there = items[order], is_item(history)[order]
        targets = items[:, 1:][there].long()
        rows = torch.arange(len(targets), device=items.device)
        return TrainingBatch(items[:, :-1], recency[order], rows, targets, torch.ones(len(rows), device=rows.device))

    def encode_batch(self, table: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        n = len(batch.items) if table.is_cuda or self.cpu_chunk is None else self.cpu_chunk
        users = [self._all_states(table, chunk) for chunk in batch.items.split(n)]
        return torch.cat(users), table.new_zeros(())

    def _all_states(self, table: Tensor, items: Tensor) -> Tensor:
        """Return float32 [R, D]: the states of all items, user by user."""
        longest = int(is_item(items).sum(dim=1).max())
        states, lengths = self._read(table, items[:, -longest:])
        there = torch.arange(longest, device=items.device) < lengths[:, None]
        return states[there].float()

    def _read(self, table: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return (states [B, L, D] of `items` [B, L] shifted to the left, lengths int64 [B]).

        States after the end of a history have no meaning.
        """
        lengths, width = is_item(items).sum(dim=1), items.shape[1]
        source = torch.arange(width, device=items.device) + (width - lengths)[:, None]
        source = source.clamp(max=width - 1)
        vectors = F.embedding(items.gather(1, source), table)
        return self.states(self.dropout(vectors), source + self.length - width), lengths
