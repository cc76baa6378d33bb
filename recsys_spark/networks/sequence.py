"""What the encoders of order have in common: rows shifted to the left, so that causality alone hides padding, and one question a place.

Shapes:  B users · L history window · l places of the longest history among users read together · D dimension of the vectors · R = T real places
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.networks.encoder import Questions, UserEncoder, real, whole


class SequenceEncoder(UserEncoder):
    """A state for every place, made of the items up to it: that of the newest item is the user's, and in training each has to tell the
    item that comes next."""

    together: int | None = None
    """Users whom a CPU reads at a time while training, so that they stay in its cache; None: the whole batch."""

    def __init__(self, *, length: int, dimension: int, dropout: float):
        super().__init__()
        self.length = length
        self.dropout = nn.Dropout(dropout)

    @abstractmethod
    def states(self, vectors: Tensor, places: Tensor) -> Tensor:
        """[B, l, D] out of `vectors` [B, l, D], a state of the vectors up to its place alone. `places` int64 [B, l] are counted so that the
        newest item of a user stands at length - 1."""

    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        states, lengths = self._read(table, items)
        last = states[torch.arange(len(items), device=items.device), (lengths - 1).clamp(min=0)].float()
        return last * (lengths > 0)[:, None]  # nothing is known of a user without history

    def questions(self, history: Tensor, recency: Tensor, newest: Tensor) -> Questions:
        # users in order of length, so that those who are read together have little padding
        order = real(history).sum(dim=1).argsort(stable=True)
        items, _ = whole(history, recency, newest)
        items, there = items[order], real(history)[order]
        targets = items[:, 1:][there].long()
        rows = torch.arange(len(targets), device=items.device)
        return Questions(items[:, :-1], recency[order], rows, targets, torch.ones(len(rows), device=rows.device))

    def answers(self, table: Tensor, questions: Questions) -> tuple[Tensor, Tensor]:
        n = len(questions.items) if table.is_cuda or self.together is None else self.together
        users = [self._every_state(table, part) for part in questions.items.split(n)]
        return torch.cat(users), table.new_zeros(())

    def _every_state(self, table: Tensor, items: Tensor) -> Tensor:
        """float32 [R, D]: the states of the real places, user by user."""
        longest = int(real(items).sum(dim=1).max())
        states, lengths = self._read(table, items[:, -longest:])
        there = torch.arange(longest, device=items.device) < lengths[:, None]
        return states[there].float()

    def _read(self, table: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """(states [B, L, D] of the rows of `items` [B, L] shifted to the left, lengths int64 [B]). What stands behind a row is of no meaning."""
        lengths, width = real(items).sum(dim=1), items.shape[1]
        source = torch.arange(width, device=items.device) + (width - lengths)[:, None]
        source = source.clamp(max=width - 1)
        vectors = F.embedding(items.gather(1, source), table)
        return self.states(self.dropout(vectors), source + self.length - width), lengths
