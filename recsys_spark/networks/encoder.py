"""The interface of the user encoders: training batches, and a user's vector from the newest items of their history.

`Architecture` makes an encoder, `TwoTower` calls it.

Shapes:  B examples or users · L history window · D dimension · R user rows · T targets of all rows · C item rows
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_spark.columns import PADDING_ITEM


@dataclass(frozen=True)
class TrainingBatch:
    """Windows to encode, and the target items of each encoded user row.

    items, recency int [B, L] right-aligned windows · rows int64 [T] ascending, the user row of each target ·
    targets int64 [T] · weights float32 [T], the weight of each target in the loss
    """

    items: Tensor
    recency: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor


class UserEncoder(nn.Module, ABC):
    """Reads right-aligned windows that are padded with 0. More padding never changes a vector."""

    @abstractmethod
    def forward(self, table: Tensor, items: Tensor, recency: Tensor) -> Tensor:
        """Return user vectors float32 [B, D] of the windows `items` and `recency` int [B, L].

        `table` float32 [C, D or D + 1] has the item rows that `items` refers to.
        """

    @abstractmethod
    def training_batch(self, history: Tensor, recency: Tensor, newest: Tensor) -> TrainingBatch:
        """Return the inputs and targets of a batch of examples. May draw at random.

        `history` and `recency` int [B, L] are windows with one item at least, `newest` int [B] the item that followed.
        """

    def encode_batch(self, table: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Return (user vectors float32 [R, D], their KL divergence from the prior float32 [], in nats).

        The divergence is summed over the batch. It is 0 for an encoder without a prior.
        """
        return self(table, batch.items, batch.recency), table.new_zeros(())


def is_item(items: Tensor) -> Tensor:
    """Return bool, in the shape of `items`: True where there is no padding."""
    return items != PADDING_ITEM


def append_newest(history: Tensor, recency: Tensor, newest: Tensor) -> tuple[Tensor, Tensor]:
    """Return (items, recency), both int [B, L + 1]: the windows with the newest item at the end."""
    return (
        torch.cat([history, newest[:, None]], dim=1),
        torch.cat([recency, torch.ones_like(recency[:, :1])], dim=1),
    )
