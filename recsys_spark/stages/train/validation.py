"""The validation NDCG that stops training, over the users of this worker: all items are ranked, the history masked out.

Shapes:  V users · b users of a tile · L history window · I items · k cutoff of the lists
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.metrics.ranking import hit_matrix, ndcg
from recsys_spark.models.histories import Histories
from recsys_spark.networks.two_tower import TwoTower

if TYPE_CHECKING:
    from recsys_spark.stages.train.validation_set import ValidationSet

CELLS = 1 << 24
"""Number of scores in memory at once: users of a tile times items."""
USERS = 256
"""Number of users that are encoded at once."""


@torch.no_grad()
def ndcg_sum(network: TwoTower, validation_set: ValidationSet, k: int, device: torch.device) -> tuple[float, int]:
    """Return the sum of the users' NDCG@k, and the number of users."""
    network.eval()
    rows = network.items()
    n, size = len(validation_set.histories), max(1, CELLS // len(rows))
    total = 0.0
    for start in range(0, n, size):
        part = validation_set.users(start, min(start + size, n))
        top = _top(network, rows, part.histories, k, device)
        hits = hit_matrix(top[:, None], part.indptr, part.items)[:, 0]
        total += float(ndcg(hits, np.diff(part.indptr), k).sum())
    return total, n


def _top(network: TwoTower, rows: Tensor, histories: Histories, k: int, device: torch.device) -> np.ndarray:
    """Return int64 [b, k]: the best items of each user that are not in the history, in order."""
    scores = _encode(network, rows, histories, device) @ network.items.scoring_rows(rows).T
    seen = np.repeat(np.arange(len(histories)), histories.lengths()), histories.items.astype(np.int64)
    scores[tuple(torch.from_numpy(index) for index in seen)] = -torch.inf
    scores[:, PADDING_ITEM] = -torch.inf
    return scores.topk(min(k, scores.shape[1] - 1), dim=1).indices.cpu().numpy()


def _encode(network: TwoTower, rows: Tensor, histories: Histories, device: torch.device) -> Tensor:
    """Return float32 [b, D + 1]. Users of similar length are encoded together, so that windows have little padding."""
    order = np.argsort(histories.lengths(), kind="stable")
    length = network.architecture.history_length
    users = []
    for batch in histories.take(order).batches(USERS):
        windows = batch.last(min(length, int(batch.lengths().max())))
        users.append(network.encode_users(rows, *(torch.from_numpy(a).to(device) for a in windows)))
    return torch.cat(users)[torch.from_numpy(np.argsort(order))]
