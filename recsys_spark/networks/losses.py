"""Softmax losses over scores: full for small catalogues, sampled for large ones.

Shapes:  B examples · D dimension · I items counting the padding item 0 · N uniform negatives · C = B + N candidates
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_OF_A_TILE = 128
"""Examples whose scores a CPU works on at a time, so that they stay in its cache: a GPU takes all of them at once."""


def full_softmax(users: Tensor, items: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of `targets` (int64 [B]) among all items but the padding; users [B, D], items [I, D]."""
    loss: Tensor = _FullSoftmax.apply(users / temperature, items[1:], targets - 1)
    return loss


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of the logits users @ items.T, whose gradient is taken at once: the logits [B, I] never stand in memory whole and
    are never read again."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        by_user, by_item = torch.empty_like(users), torch.zeros_like(items)
        loss = users.new_zeros((), dtype=torch.float32)
        step = len(users) if users.is_cuda else ROWS_OF_A_TILE
        for start in range(0, len(users), step):
            part, own = users[start : start + step], targets[start : start + step, None]
            powers = (part @ items.T).float()
            powers -= powers.amax(dim=1, keepdim=True)
            own_logits = powers.gather(1, own)
            total = powers.exp_().sum(dim=1, keepdim=True)
            loss += (total.log() - own_logits).sum()
            # the gradient of the logits: the softmax, less 1 at the target, over the number of examples
            powers /= total * len(users)
            powers.scatter_add_(1, own, powers.new_full(own.shape, -1 / len(users)))
            by_user[start : start + step] = powers @ items
            by_item += powers.T @ part
        ctx.save_for_backward(by_user, by_item)
        return loss / len(users)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        by_user, by_item = ctx.saved_tensors
        return by_user * gradient, by_item * gradient, None


def sampled_softmax(
    users: Tensor, candidates: Tensor, ids: Tensor, log_expected: Tensor, temperature: float
) -> Tensor:
    """Mean cross-entropy of each target among the batch's targets and shared uniform negatives.

    `ids` (int64 [C]) are the B targets, then N negatives; `candidates` [C, D] their vectors, `log_expected` [C] the logarithm of how
    often each is expected among the candidates, which is taken off its logit. Bengio & Senecal 2008 gives the correction, Yi et al. 2019
    uses it for in-batch negatives, Yang et al. 2020 mixes those with uniform ones. An example's own target in another place is no negative
    of it and is left out; so the target stands in its row once, for certain, and nothing is taken off. Then the sum of the powers of a row
    is, in expectation, that of the full softmax.
    """
    targets = ids[: len(users)]
    own = torch.eye(len(users), len(ids), dtype=torch.bool, device=users.device)
    logits = (users @ candidates.T / temperature).float()
    logits = torch.where(own, logits, logits - log_expected)
    hits = (ids[None, :] == targets[:, None]) & ~own
    return F.cross_entropy(
        logits.masked_fill(hits, -torch.inf), torch.arange(len(users), device=users.device)
    )


def log_expected_counts(counts: Tensor, batch: int, negatives: int) -> Tensor:
    """float32 [I]: log of the expected number of times an item is among the candidates of a batch.

    batch * p_i + negatives / (I - 1), where p_i is the item's share of the training pairs `counts` [I]; -inf for the padding item.
    """
    share = counts.double() / counts.sum()
    expected = batch * share + negatives / (len(counts) - 1)
    expected[0] = 0.0
    return expected.log().float()
