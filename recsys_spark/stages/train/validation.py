"""The valid NDCG that stops training: full ranking with the history masked out, summed over the users of this worker.

Shapes:  V users · b users of a tile · L history window · I items · k cut of the lists
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recsys_spark.metrics.ranking import ndcg
from recsys_spark.models.histories import Histories
from recsys_spark.networks.two_tower import TwoTower

if TYPE_CHECKING:
    from recsys_spark.stages.train.validation_set import Held

CELLS = 1 << 24
"""Scores in memory at a time: users of a tile times items."""
USERS = 256
"""Users who are encoded at a time."""


@torch.no_grad()
def ndcg_sum(network: TwoTower, held: Held, k: int, device: torch.device) -> tuple[float, int]:
    """Return the sum of the users' NDCG@k, and the number of users."""
    network.eval()
    rows = network.items()
    size = max(1, CELLS // len(rows))
    total = sum(
        _tile(network, rows, held, start, min(start + size, len(held.histories)), k, device)
        for start in range(0, len(held.histories), size)
    )
    return total, len(held.histories)


def _tile(network: TwoTower, rows: Tensor, held: Held, start: int, stop: int, k: int, device: torch.device) -> float:
    histories = held.histories.rows(start, stop)
    scores = _encode(network, rows, histories, device) @ network.items.as_one(rows).T
    scores[:, 0] = -torch.inf
    scores[_cells(histories.indptr, histories.items)] = -torch.inf
    relevant = torch.zeros_like(scores, dtype=torch.bool)
    indptr = held.indptr[start : stop + 1]
    relevant[_cells(indptr - indptr[0], held.items[indptr[0] : indptr[-1]])] = True
    best = scores.topk(min(k, scores.shape[1] - 1), dim=1).indices
    hits = relevant.gather(1, best).cpu().numpy()
    return float(ndcg(hits, np.diff(indptr), k).sum())


def _encode(network: TwoTower, rows: Tensor, histories: Histories, device: torch.device) -> Tensor:
    """float32 [b, D + 1] users. Those of like length are read together, so that little of their window is padding."""
    order = np.argsort(histories.lengths(), kind="stable")
    length = network.architecture.history_length
    users = []
    for batch in histories.take(order).batches(USERS):
        windows = batch.last(min(length, int(batch.lengths().max())))
        users.append(network.encode_users(rows, *(torch.from_numpy(a).to(device) for a in windows)))
    return torch.cat(users)[torch.from_numpy(np.argsort(order))]


def _cells(indptr: np.ndarray, items: np.ndarray) -> tuple[Tensor, Tensor]:
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return torch.from_numpy(rows), torch.from_numpy(items.astype(np.int64))
