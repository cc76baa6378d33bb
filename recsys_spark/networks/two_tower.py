"""The two-tower network: users and items as unit vectors of one space, scored by their cosine.

Shapes:  B users · L history window · D dimension · I items · H pooling heads
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.networks.encoder import UserEncoder
from recsys_spark.networks.item_tower import ItemTower


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
    """`sparse`: gradients of the item tables name the rows they touch, which a sampled softmax over a large catalogue needs."""

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

    def encode_users(self, history: Tensor, recency: Tensor) -> Tensor:
        """float32 [B, D] unit vectors of users with the windows `history` and `recency`, int [B, L]."""
        users = self.users(self.items.ids.weight, history, recency, self.sparse)
        return F.normalize(users, dim=-1)

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """float32 [C, D] unit vectors of `items` (int64 [C]), or [I, D] of all."""
        vectors: Tensor = self.items(items)
        return vectors
