"""The two-tower network: users and items as unit vectors of one space; a score is their cosine plus the item's bias.

Shapes:  B users · L history window · D dimension · I items · C candidates of a batch · H pooling heads
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.networks.encoder import UserEncoder
from recsys_spark.networks.item_tower import ItemTower, as_read, as_scored


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the shapes of the weights."""

    n_items: int
    n_features: int
    history_length: int
    dimension: int
    hidden: int
    heads: int

    def as_parameters(self) -> dict[str, Any]:
        return asdict(self)


class TwoTower(nn.Module):
    """`sparse`: the gradient of the item table names the rows it touches, which a sampled softmax over a large catalogue needs."""

    def __init__(self, architecture: Architecture, *, dropout: float = 0.0, sparse: bool = False):
        super().__init__()
        a = architecture
        self.architecture = a
        self.sparse = sparse
        self.items = ItemTower(
            n_items=a.n_items, n_features=a.n_features, dimension=a.dimension, sparse=sparse
        )
        self.users = UserEncoder(
            length=a.history_length, dimension=a.dimension, hidden=a.hidden, heads=a.heads, dropout=dropout
        )

    def forward(
        self, history: Tensor, recency: Tensor, candidates: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(users float32 [B, D + 1], items float32 [C, D + 1]), whose products are the scores.

        `history` and `recency` int [B, L]; `candidates` int64 [C], or None for all I items. Only the rows that the batch needs are
        made, each once.
        """
        if candidates is None:
            rows = self.items()
            return self.encode_users(rows, history, recency), as_scored(rows)
        # the padding item is always there and comes first, so that padding keeps its number
        needed = torch.cat([candidates.new_tensor([PADDING_ITEM]), history.flatten().long(), candidates])
        unique, places = torch.unique(needed, return_inverse=True)
        rows = self.items(unique)
        window, asked = places[1 : 1 + history.numel()].view_as(history), places[1 + history.numel() :]
        return self.encode_users(rows, window, recency), as_scored(rows)[asked]

    def encode_users(self, rows: Tensor, history: Tensor, recency: Tensor) -> Tensor:
        """float32 [B, D + 1]: unit vectors of users, and 1 for the bias. `history` int [B, L] counts the rows of the item tower's `rows`."""
        users = F.normalize(self.users(as_read(rows), history, recency), dim=-1)
        return F.pad(users, (0, 1), value=1.0)
