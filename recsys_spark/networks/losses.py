"""Softmax losses over scores: full for small catalogues, sampled for large ones.

A user row may have any number of targets: `rows` int64 [T], ascending, says whose a target is, `targets` int64 [T] what it is, `weights`
float32 [T] what it counts. The score of a row and an item is s = user . item + the item's bias. A loss is the weighed sum of the targets'
cross-entropies: with the temperature t, and w and i a target's weight and item,

    full:     - sum over the targets of w (s_i / t - log (sum over all items j of e^(s_j / t)))
    sampled:  the same with the sum over the row's targets and the candidates c that are none of them, as e^(s_c / t + offset_c)

The first is the multinomial likelihood (Liang et al., WWW 2018, for histories), the second its importance-sampled form.

Shapes:  R user rows · T targets of all of them · D dimension · I items counting the padding item 0 · C candidates
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys_spark.networks.exponential import powers_of_bfloat16, powers_of_float32

ROWS_OF_A_TILE, CELLS_OF_A_TILE = 1024, 1 << 26
"""User rows, and scores, that a CPU works on at a time at most: 128 MiB of bfloat16. Fewer rows stay in its cache, but each product lays out all
items anew: 128 rows take 1.2 times (41,000 items) to 1.5 times (4,000) as long."""
CELLS_OF_A_GPU_TILE = 1 << 27
"""Scores that a GPU works on at a time: half a GiB in float32."""
ABREAST = 32
"""A row of scores is a multiple of this many long, so that each begins at a cache line: of 3,883 items the products take a twentieth longer than of
3,904. The biases stand apart for the same reason: as a 65th dimension they would cost a third more."""


def full_softmax(
    users: Tensor, items: Tensor, biases: Tensor, rows: Tensor, targets: Tensor, weights: Tensor, temperature: float
) -> Tensor:  # fmt: skip
    """The loss among all items but the padding; users [R, D], items [I, D], biases [I]."""
    given = users / temperature, items[1:], biases[1:] / temperature
    loss: Tensor = _FullSoftmax.apply(*given, rows, targets - 1, weights)
    return loss


class _FullSoftmax(torch.autograd.Function):
    """The loss of the logits users @ items.T + biases, whose gradient is taken at once: the logits [R, I] never stand in memory whole and are
    never read again.

    The gradient of a row's logits is its softmax times the row's weights together, less each target's own weight at the target. The softmax is
    powers over their sum. The sum divides the small matrices, not the powers, and the targets' part is added apart, not rounded together with
    the softmax.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, biases: Tensor, rows: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        halves = torch.is_autocast_enabled(users.device.type)
        kind = torch.get_autocast_dtype(users.device.type) if halves else users.dtype
        (n, dimension), more = items.shape, -len(items) % ABREAST
        read, narrow = users.to(kind), F.pad(items, (0, 0, 0, more)).to(kind)
        cells, rows_at_most = CELLS_OF_A_TILE, ROWS_OF_A_TILE
        if users.is_cuda:
            cells, rows_at_most = CELLS_OF_A_GPU_TILE, len(users)
        step = max(1, min(rows_at_most, cells // len(narrow)))
        askers, asked = users.index_select(0, rows), items.index_select(0, targets)
        loss = -(weights * ((askers * asked).sum(dim=1) + biases[targets])).sum()
        shares = torch.zeros(len(users), 1, device=users.device).index_add_(0, rows, weights[:, None])
        by_user = torch.zeros(users.shape, device=users.device)
        by_user.index_add_(0, rows, -weights[:, None] * asked)
        by_item = torch.zeros(dimension + 1, len(narrow), device=items.device)  # the last row: by bias
        for start in range(0, len(users), step):
            tile = slice(start, start + step)
            powers, most, total = _powers(read[tile], narrow, biases)
            loss += (shares[tile] * (total.log() + most)).sum()
            scale = shares[tile] / total
            by_user[tile] += scale * (powers @ narrow)
            by_item += torch.cat([scale * read[tile], scale], dim=1).to(kind).T @ powers
        by_bias = by_item[dimension, :n].index_add(0, targets, -weights)
        by_vector = by_item[:dimension, :n].T.contiguous().index_add_(0, targets, -weights[:, None] * askers)
        ctx.save_for_backward(by_user.to(users.dtype), by_vector.to(items.dtype), by_bias.to(biases.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(saved * gradient for saved in ctx.saved_tensors), None, None, None


def _powers(users: Tensor, items: Tensor, biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the logits users @ items.T + biases: (e ** (logits - most) [R, I] in the type of `users` and `items`, most float32 [R, 1] of each row,
    sums of the powers float32 [R, 1]). Items beyond the float32 `biases` have no power."""
    if not users.is_cuda and users.dtype in (torch.float32, torch.bfloat16):
        logits = users @ items.T
        most, total = torch.empty(2, len(logits), 1).unbind()
        asked = biases.numpy(), most[:, 0].numpy(), total[:, 0].numpy()
        if logits.dtype == torch.float32:
            powers_of_float32(logits.numpy(), *asked)
        else:
            powers_of_bfloat16(logits.view(torch.int16).numpy(), *asked)
        return logits, most, total
    every = F.pad(biases, (0, len(items) - len(biases)), value=-torch.inf)
    logits = torch.addmm(every.to(users.dtype), users, items.T)
    most = logits.amax(dim=1, keepdim=True).float()
    powers = (logits.float() - most).exp_()
    return powers.to(logits.dtype), most, powers.sum(dim=1, keepdim=True)


def sampled_softmax(
    users: Tensor, items: Tensor, biases: Tensor, rows: Tensor, targets: Tensor, weights: Tensor,
    temperature: float, candidates: Tensor, offsets: Tensor,
) -> Tensor:  # fmt: skip
    """The loss of each target among its user row's targets and candidates that all rows share.

    users [R, D]; items [I, D] and biases [I] are those of the batch, which `targets` and `candidates` (int64 [C], ascending, each once) count. `offsets`
    float32 [C] is added to the candidates' logits: the logarithm of how often a candidate was drawn, less that of how often this was
    expected. Bengio & Senecal 2008 gives the correction, Yi et al. 2019 uses it for in-batch negatives, Yang et al. 2020 mixes those with
    uniform ones. A candidate that is a target of the row is no negative of it and is left out; so the row's targets stand in it once, for
    certain, and nothing is added to them. Then the sum of the powers of a row is, in expectation, that of the full softmax.
    """
    of_candidates = users @ items[candidates].T + biases[candidates]
    logits = (of_candidates / temperature).float() + offsets
    logits = logits.masked_fill(_held(candidates, rows, targets, len(users)), -torch.inf)
    products = F.embedding(rows, users).float() * F.embedding(targets, items).float()
    # not biases[targets]: of many targets, whose gradients threads would add up in any order
    own = (products.sum(dim=1) + F.embedding(targets, biases[:, None])[:, 0]) / temperature
    most = logits.detach().amax(dim=1).scatter_reduce(0, rows, own.detach(), "amax")
    powers = (logits - most[:, None]).exp().sum(dim=1).index_add(0, rows, (own - most[rows]).exp())
    shares = torch.zeros_like(most).index_add_(0, rows, weights)
    return (shares * (powers.log() + most)).sum() - (weights * own).sum()


def _held(candidates: Tensor, rows: Tensor, targets: Tensor, n_rows: int) -> Tensor:
    """bool [R, C]: which candidates are targets of the row."""
    places = torch.searchsorted(candidates, targets).clamp(max=len(candidates) - 1)
    found = candidates[places] == targets
    held = torch.zeros(n_rows, len(candidates), dtype=torch.bool, device=candidates.device)
    held[rows[found], places[found]] = True
    return held


def log_expected_counts(counts: Tensor, batch: int, negatives: int) -> Tensor:
    """float32 [I]: log of the expected number of times an item is among the candidates of a batch.

    batch * p_i + negatives / (I - 1), where p_i is the item's share of the training pairs `counts` [I]; -inf for the padding item.
    """
    share = counts.double() / counts.sum()
    expected = batch * share + negatives / (len(counts) - 1)
    expected[0] = 0.0
    return expected.log().float()
