"""Softmax losses over scores: full for small catalogues, sampled for large ones.

Shapes:  B examples · D dimension · I items counting the padding item 0 · N uniform negatives · C = B + N candidates
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys_spark.networks.exponential import powers_of_bfloat16

ROWS_OF_A_TILE = 128
"""Examples whose scores a CPU works on at a time, so that they stay in its cache: a GPU takes all of them at once."""


def full_softmax(users: Tensor, items: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of `targets` (int64 [B]) among all items but the padding; users [B, D], items [I, D]."""
    loss: Tensor = _FullSoftmax.apply(users / temperature, items[1:], targets - 1)
    return loss


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of the logits users @ items.T, whose gradient is taken at once: the logits [B, I] never stand in memory whole and
    are never read again.

    The gradient of a row's logits is its softmax, less 1 at the target, over the number of examples; the softmax is powers over their sum. The
    sum divides the small matrices, not the powers, and the target's part is added apart, not rounded together with the softmax.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        halves = torch.is_autocast_enabled(users.device.type)
        kind = torch.get_autocast_dtype(users.device.type) if halves else users.dtype
        narrow, read = items.to(kind), users.to(kind)
        share = 1 / len(users)
        by_user = -share * items[targets].float()
        by_item = torch.zeros(items.T.shape, device=items.device)
        loss = torch.zeros((), device=items.device)
        step = len(users) if users.is_cuda else ROWS_OF_A_TILE
        for start in range(0, len(users), step):
            part, own = read[start : start + step], targets[start : start + step, None]
            logits = part @ narrow.T
            own_logits = logits.gather(1, own).float()
            powers, most, total = _powers(logits)
            loss += (total.log() + most - own_logits).sum()
            scale = share / total
            by_user[start : start + step] += scale * (powers @ narrow)
            by_item += (scale * part).to(kind).T @ powers
        by_item = by_item.T.contiguous().index_add_(0, targets, users.float(), alpha=-share)
        ctx.save_for_backward(by_user.to(users.dtype), by_item.to(items.dtype))
        return loss * share

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        by_user, by_item = ctx.saved_tensors
        return by_user * gradient, by_item * gradient, None


def _powers(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(e ** (logits - most) in the type of `logits` [R, I], most float32 [R, 1] of each row, sums of the powers float32 [R, 1]).

    May overwrite `logits`.
    """
    if logits.dtype == torch.bfloat16 and not logits.is_cuda:
        most, total = torch.empty(2, len(logits), 1).unbind()
        powers_of_bfloat16(logits.view(torch.int16).numpy(), most[:, 0].numpy(), total[:, 0].numpy())
        return logits, most, total
    most = logits.amax(dim=1, keepdim=True).float()
    powers = (logits.float() - most).exp_()
    return powers.to(logits.dtype), most, powers.sum(dim=1, keepdim=True)


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
