"""The two-tower network: users and items are unit vectors of one space.

    score(u, i) = x_u . y_i / (|x_u| |y_i|) + b_i

The loss divides scores by a temperature before the softmax over i. Source: Yi et al., Sampling-bias-corrected neural
modeling for large corpus item recommendations, RecSys 2019.

Shapes:  B users · L history window · D dimension · I items · C candidates of a batch · R user rows · T targets of all
rows · W numbers of an item row
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.encoder import TrainingBatch
from recsys_spark.networks.item_tower import ItemTower


@dataclass(frozen=True)
class EncodedBatch:
    """The inputs of the loss. A score is the product of a user and an item vector plus the item's bias.

    users float32 [R, D] · items float32 [I or fewer, D] · biases float32 [I or fewer] · targets int64 [T] and
    candidates int64 [C], indices into `items` · divergence float32 [], see `UserEncoder.encode_batch`
    """

    users: Tensor
    items: Tensor
    biases: Tensor
    targets: Tensor
    candidates: Tensor
    divergence: Tensor


class TwoTower(nn.Module):
    """`sparse`: the gradient of the item table has only the rows of the batch, as sampled negatives need."""

    def __init__(self, architecture: Architecture, *, dropout: float = 0.0, sparse: bool = False):
        super().__init__()
        a = architecture
        self.architecture = a
        self.sparse = sparse
        self.items = ItemTower(
            n_items=a.n_items,
            n_features=a.n_features,
            dimension=a.dimension,
            sparse=sparse,
            item_weights=a.item_weights,
        )
        self.users = a.make_encoder(dropout)

    @torch.no_grad()
    def start_from(self, weights: dict[str, Tensor], trained: Tensor) -> None:
        """Take the `weights` of a network of the same architecture.

        Items outside `trained` bool [I] keep their present rows, because that network saw them only as negatives.
        """
        present = self.items.ids.weight.clone()
        self.load_state_dict(weights)
        self.items.ids.weight[~trained] = present[~trained]

    def forward(self, batch: TrainingBatch, candidates: Tensor | None = None) -> EncodedBatch:
        """Encode the users and items of a batch.

        The items are the whole catalogue, or with `candidates` int64 [C], ascending, those that the batch needs.
        """
        if candidates is None:
            rows = self.items()
            users, divergence = self._users(rows, batch)
            catalogue = torch.arange(len(rows), device=rows.device)
            return EncodedBatch(users, *self.items.scoring_parts(rows), batch.targets, catalogue, divergence)
        # the padding item is first, so that its index stays 0
        padding = batch.targets.new_tensor([PADDING_ITEM])
        needed = torch.cat([padding, batch.items.flatten().long(), batch.targets, candidates])
        unique, indices = torch.unique(needed, return_inverse=True)
        window, targets, candidates = indices[1:].split([batch.items.numel(), len(batch.targets), len(candidates)])
        rows = self.items(unique)
        users, divergence = self._users(rows, replace(batch, items=window.view_as(batch.items)))
        return EncodedBatch(users, *self.items.scoring_parts(rows), targets, candidates, divergence)

    def encode_users(self, rows: Tensor, history: Tensor, recency: Tensor) -> Tensor:
        """Return float32 [B, D + 1]: unit vectors of users, and 1 as the factor of the item's bias.

        `history` int [B, L] refers to the item tower's `rows` [C, W].
        """
        users = self.users(self.items.encoder_rows(rows), history, recency)
        return F.pad(F.normalize(users, dim=-1), (0, 1), value=1.0)

    def _users(self, rows: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Return (unit vectors of users float32 [R, D], divergence float32 [])."""
        users, divergence = self.users.encode_batch(self.items.encoder_rows(rows), batch)
        return F.normalize(users, dim=-1), divergence
