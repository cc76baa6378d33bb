"""Softmax losses over item scores: the full softmax for small catalogues, the sampled softmax for large ones.

A user row may have any number of targets. `rows` int64 [T], ascending, `targets` int64 [T] and `weights` float32 [T]
are the row, the item and the weight of each. The score of a row and an item is s = user . item + the item's bias. A
loss is the weighted sum of the targets' cross-entropies. For a target i of weight w and the temperature t:

    full:     - w (s_i / t - log (sum over all items j of e^(s_j / t)))
    sampled:  the same with the sum over the row's targets and the other candidates c, as e^(s_c / t + offset_c)

The first is the multinomial likelihood (Liang et al., WWW 2018, for histories), the second its importance-sampled form.

Shapes:  R user rows · T targets of all rows · D dimension · I items counting the padding item 0 · C candidates ·
B examples of a batch
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_OF_A_TILE = 256
"""User rows whose scores are computed at once. The scores of all rows would not fit the memory of a large catalogue."""


def full_softmax(
    users: Tensor, items: Tensor, biases: Tensor, rows: Tensor, targets: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Return the loss over all items but the padding, for users [R, D], items [I, D] and biases [I]."""
    inputs = users / temperature, items[1:], biases[1:] / temperature
    loss: Tensor = _FullSoftmax.apply(*inputs, rows, targets - 1, weights)
    return loss


class _FullSoftmax(torch.autograd.Function):
    """The loss of the logits users @ items.T + biases, and in the same pass its gradient.

    The gradient of a row's logits is softmax * the row's weight, minus the weight of each target at the target. So the
    probabilities are computed once, tile by tile, and never kept. `F.cross_entropy` over the same tiles is the plain
    form, and the tests compare both: with autograd an epoch takes 1.4 times as long, and the memory of all logits.
    """

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, biases: Tensor, rows: Tensor, targets: Tensor, weights: Tensor
    ) -> Tensor:
        device = users.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else users.dtype
        low_users, low_items, low_biases = (tensor.to(dtype) for tensor in (users, items, biases))
        row_weights = torch.zeros(len(users), device=device).index_add_(0, rows, weights)[:, None]
        by_user = torch.zeros(users.shape, device=device)
        by_item = torch.zeros(users.shape[1] + 1, len(items), device=device)  # the last row is by bias
        chosen = torch.empty(len(targets), device=device)
        starts = torch.arange(0, len(users) + ROWS_OF_A_TILE, ROWS_OF_A_TILE, device=device)
        edges = torch.searchsorted(rows, starts).tolist()
        for start, edge in zip(starts.tolist(), pairwise(edges), strict=False):
            tile, own = slice(start, start + ROWS_OF_A_TILE), slice(*edge)
            probabilities = torch.addmm(low_biases, low_users[tile], low_items.T).softmax(dim=1)
            chosen[own] = probabilities[rows[own] - start, targets[own]].float()
            by_user[tile] = row_weights[tile] * (probabilities @ low_items)
            factors = torch.cat([row_weights[tile] * users[tile], row_weights[tile]], dim=1)
            by_item += factors.to(dtype).T @ probabilities
        # added apart, so that half precision does not round it together with the probabilities
        scale = weights[:, None]
        by_user.index_add_(0, rows, -scale * items.index_select(0, targets))
        by_vector = by_item[:-1].T.contiguous().index_add_(0, targets, -scale * users.index_select(0, rows))
        by_bias = by_item[-1].index_add(0, targets, -weights)
        ctx.save_for_backward(by_user.to(users.dtype), by_vector.to(items.dtype), by_bias.to(biases.dtype))
        return -(weights * chosen.clamp(min=torch.finfo(chosen.dtype).tiny).log()).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(saved * gradient for saved in ctx.saved_tensors), None, None, None


def sampled_softmax(
    users: Tensor, items: Tensor, biases: Tensor, rows: Tensor, targets: Tensor, weights: Tensor,
    temperature: float, candidates: Tensor, offsets: Tensor,
) -> Tensor:  # fmt: skip
    """Return the loss over each row's targets and `candidates`, which all rows share.

    users [R, D] · items [I, D] and biases [I] of the batch, which `targets` and `candidates` int64 [C] (ascending,
    unique) refer to · offsets float32 [C], added to the candidates' logits: log(times drawn) - log(expected times).

    Bengio & Senecal 2008 introduced the correction. Yi et al. 2019 use it for in-batch negatives (logQ correction),
    Yang et al. 2020 add uniform negatives. A candidate that is a target of the row is masked out. The row's targets are
    in the sum once and need no offset. In expectation the sum is that of the full softmax.
    """
    logits = ((users @ items[candidates].T + biases[candidates]) / temperature).float() + offsets
    logits = logits.masked_fill(_is_target(candidates, rows, targets, len(users)), -torch.inf)
    products = F.embedding(rows, users).float() * F.embedding(targets, items).float()
    # not biases[targets], whose gradient adds in an order that differs from run to run
    target_logits = (products.sum(dim=1) + F.embedding(targets, biases[:, None])[:, 0]) / temperature
    peaks = logits.detach().amax(dim=1).scatter_reduce(0, rows, target_logits.detach(), "amax")
    sums = (logits - peaks[:, None]).exp().sum(dim=1).index_add(0, rows, (target_logits - peaks[rows]).exp())
    row_weights = torch.zeros_like(peaks).index_add_(0, rows, weights)
    return (row_weights * (sums.log() + peaks)).sum() - (weights * target_logits).sum()


def _is_target(candidates: Tensor, rows: Tensor, targets: Tensor, n_rows: int) -> Tensor:
    """Return bool [R, C]: whether a candidate is a target of the row."""
    places = torch.searchsorted(candidates, targets).clamp(max=len(candidates) - 1)
    matches = candidates[places] == targets
    mask = torch.zeros(n_rows, len(candidates), dtype=torch.bool, device=candidates.device)
    mask[rows[matches], places[matches]] = True
    return mask


class CandidateSampler:
    """Draws the candidates of the sampled softmax: in-batch targets, and `negatives` uniform over the catalogue.

    `counts` int64 [I] are the training pairs of each item, `batch` is B.
    """

    def __init__(self, counts: Tensor, batch: int, negatives: int):
        self.n_items = len(counts)
        self.batch = batch
        self.negatives = negatives
        self.log_expected = log_expected_counts(counts, batch, negatives)

    def draw(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (candidates int64 [C], ascending and unique, their offsets float32 [C] for `sampled_softmax`).

        Of more than B `targets` int64 [T], B are drawn at random. Item 0 is never drawn. The `generator` is on the CPU,
        so that a GPU has the same candidates.
        """
        uniform = torch.randint(1, self.n_items, (self.negatives,), generator=generator)
        if len(targets) > self.batch:
            chosen = torch.randperm(len(targets), generator=generator)[: self.batch]
            targets = targets[chosen.to(targets.device)]
        candidates, times = torch.cat([targets, uniform.to(targets.device)]).unique(return_counts=True)
        return candidates, times.log() - self.log_expected.to(targets.device)[candidates]


def log_expected_counts(counts: Tensor, batch: int, negatives: int) -> Tensor:
    """Return float32 [I]: the log of the expected number of times that an item is drawn for a batch.

    batch * p_i + negatives / (I - 1), where p_i is the item's share of the training pairs `counts` [I]. -inf for the
    padding item.
    """
    share = counts.double() / counts.sum()
    expected = batch * share + negatives / (len(counts) - 1)
    expected[0] = 0.0
    return expected.log().float()
