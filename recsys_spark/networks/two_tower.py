"""The two-tower network: users and items as unit vectors of one space; a score is their cosine plus the item's bias.

    score(u, i) = x_u . y_i / (|x_u| |y_i|) + b_i,      whose softmax over i has the temperature t: scores are divided by it

Two towers and a softmax: Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys 2019.

Shapes:  B users · L history window · D dimension · I items · C candidates of a batch · R user rows · T targets of all of them · W numbers of an
item row
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.encoder import Questions
from recsys_spark.networks.item_tower import ItemTower


@dataclass(frozen=True)
class Answers:
    """users float32 [R, D] and items float32 [I or fewer, D], whose products with the items' biases float32 [I or fewer] added are the scores ·
    targets int64 [T] and candidates int64 [C] count these items · divergence float32 [] as the encoder gives it"""

    users: Tensor
    items: Tensor
    biases: Tensor
    targets: Tensor
    candidates: Tensor
    divergence: Tensor


class TwoTower(nn.Module):
    """`sparse`: the gradient of the item table names the rows it touches, which a sampled softmax over a large catalogue needs."""

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
            weighed=a.weighed,
        )
        self.users = a.make_encoder(dropout)

    @torch.no_grad()
    def start_from(self, weights: dict[str, Tensor], trained: Tensor) -> None:
        """Take the `weights` of a network of the same architecture. Items that it was not trained on, by `trained` bool [I], keep the start that they
        have here: there they were wrong answers only."""
        own = self.items.ids.weight.clone()
        self.load_state_dict(weights)
        self.items.ids.weight[~trained] = own[~trained]

    def forward(self, questions: Questions, candidates: Tensor | None = None) -> Answers:
        """The user rows of `questions` and the items they are asked about: all of them, or, with `candidates` (int64 [C], ascending), those that
        the batch needs, each once."""
        if candidates is None:
            rows = self.items()
            users, divergence = self._users(rows, questions)
            every = torch.arange(len(rows), device=rows.device)
            return Answers(users, *self.items.as_scored(rows), questions.targets, every, divergence)
        read, targets = questions.items, questions.targets
        # the padding item is always there and comes first, so that padding keeps its number
        needed = torch.cat([targets.new_tensor([PADDING_ITEM]), read.flatten().long(), targets, candidates])
        unique, places = torch.unique(needed, return_inverse=True)
        window, targets, candidates = places[1:].split([read.numel(), len(targets), len(candidates)])
        rows = self.items(unique)
        users, divergence = self._users(rows, replace(questions, items=window.view_as(read)))
        return Answers(users, *self.items.as_scored(rows), targets, candidates, divergence)

    def encode_users(self, rows: Tensor, history: Tensor, recency: Tensor) -> Tensor:
        """float32 [B, D + 1]: unit vectors of users, and 1 for the bias. `history` int [B, L] counts the item tower's `rows` [C, W]."""
        users = self.users(self.items.as_read(rows), history, recency)
        return F.pad(F.normalize(users, dim=-1), (0, 1), value=1.0)

    def _users(self, rows: Tensor, questions: Questions) -> tuple[Tensor, Tensor]:
        """(unit vectors of users float32 [R, D], divergence float32 [])."""
        users, divergence = self.users.answers(self.items.as_read(rows), questions)
        return F.normalize(users, dim=-1), divergence
