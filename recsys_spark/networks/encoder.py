"""The face that every user encoder shows: a user's vector out of the newest items of their history, and what a training example asks of it.

Shapes:  B examples or users · L history window · D dimension of the vectors · R user rows · T targets of all of them · C item rows
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_spark.columns import PADDING_ITEM


@dataclass(frozen=True)
class Questions:
    """What a batch of examples asks: windows to read, and which items should then score high for which user row.

    items, recency int [B, L] right-aligned windows · rows int64 [T], ascending, the user row that each target belongs to ·
    targets int64 [T] · weights float32 [T] what each counts
    """

    items: Tensor
    recency: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor


class UserEncoder(nn.Module, ABC):
    """Reads right-aligned, 0-padded windows; more padding never changes a vector."""

    @abstractmethod
    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        """float32 [B, D]: users out of the windows `items` and `recency` (int [B, L]) and the item rows `table` [C, D]."""

    @abstractmethod
    def questions(self, history: Tensor, recency: Tensor, newest: Tensor) -> Questions:
        """What the examples of a batch ask: `history` and `recency` int [B, L], the item `newest` int [B] that came after. Nothing is padding
        only. May draw at random."""

    def answers(self, table: Tensor, questions: Questions) -> tuple[Tensor, Tensor]:
        """(users float32 [R, D], their divergence from a prior float32 [] in nats, summed over the batch; 0 where there is none)."""
        return self(table, questions.items, questions.recency), table.new_zeros(())


def whole(history: Tensor, recency: Tensor, newest: Tensor) -> tuple[Tensor, Tensor]:
    """(items, recency), both int [B, L + 1]: the windows with the newest item at their end, from which it has no gap."""
    return (
        torch.cat([history, newest[:, None]], dim=1),
        torch.cat([recency, torch.ones_like(recency[:, :1])], dim=1),
    )


def real(items: Tensor) -> Tensor:
    """bool, in the shape of `items`: what is not padding."""
    return items != PADDING_ITEM
