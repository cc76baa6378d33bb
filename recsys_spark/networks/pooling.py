"""Attention over a window of history, its weights learned for places and recency: the formula, and a compiled form of it for the CPU.

The compiled form never makes the window's vectors [B, L, D] and skips the places that do not count, so it takes a sixth of the time.

Shapes:  B users · L history window · D dimension · H heads · R recency buckets · I rows of the table
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recsys_spark.jit import REORDER, compiled
from recsys_spark.networks.exponential import exponentials


def pool(
    table: Tensor, items: Tensor, recency: Tensor, counts: Tensor, place: Tensor, buckets: Tensor,
    *, weighed: bool = False,
) -> Tensor:  # fmt: skip
    """float32 [B, H, D]: for each head the mean of the rows `items` (int [B, L]) of `table` [I, D], weighed by the softmax of
    place[h, l] + buckets[h, recency[b, l]] over the places where `counts` (bool [B, L]); 0 where none does.

    `weighed`: the table is [I, D + 1], and its last column is added to the logits of an item. `recency` int [B, L], `place` [H, L],
    `buckets` [H, R]; all three floats are float32 and get gradients.
    """
    given = (table, items, recency, counts, place, buckets, weighed)
    return pool_by_formula(*given) if table.is_cuda else _Pool.apply(*given)


def pool_by_formula(
    table: Tensor, items: Tensor, recency: Tensor, counts: Tensor, place: Tensor, buckets: Tensor,
    weighed: bool = False,
) -> Tensor:  # fmt: skip
    """What `pool` computes, in torch."""
    logits = place + F.embedding(recency, buckets.T).transpose(1, 2)
    vectors = F.embedding(items, table)
    if weighed:
        logits, vectors = logits + vectors[:, None, :, -1], vectors[:, :, :-1]
    logits = logits.masked_fill(~counts[:, None], -1e4)
    weights = logits.softmax(dim=-1) * counts[:, None]
    return torch.bmm(weights, vectors)


_OUT, _ZERO, _ONE = np.float32(-1e4), np.float32(0), np.float32(1)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *tensors, weighed = given
        arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
        table, items, _, _, place, _ = arrays
        weights = np.empty((len(items), *place.shape), np.float32)
        pooled = np.empty((len(items), len(place), table.shape[1] - weighed), np.float32)
        _forward(*arrays, weighed, weights, pooled)
        ctx.arrays, ctx.weighed = (*arrays, weights), weighed
        return torch.from_numpy(pooled)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        table, items, recency, _, place, buckets, weights = ctx.arrays
        by_table, by_place, by_bucket = (np.zeros_like(a) for a in (table, place, buckets))
        _backward(
            gradient.contiguous().numpy(), table, items, recency, weights, ctx.weighed, by_table, by_place, by_bucket
        )  # fmt: skip
        return (
            torch.from_numpy(by_table), None, None, None, torch.from_numpy(by_place), torch.from_numpy(by_bucket), None
        )  # fmt: skip


@compiled(fastmath=REORDER)
def _forward(
    table: np.ndarray, items: np.ndarray, recency: np.ndarray, counts: np.ndarray, place: np.ndarray,
    buckets: np.ndarray, weighed: bool, weights: np.ndarray, pooled: np.ndarray,
) -> None:  # fmt: skip
    """Set `weights` [B, H, L] and `pooled` [B, H, D]."""
    heads, length = place.shape
    dimension = pooled.shape[2]
    for b in range(len(items)):
        for h in range(heads):
            most = _OUT
            for l in range(length):  # noqa: E741 - as in the legend
                logit = place[h, l] + buckets[h, recency[b, l]] if counts[b, l] else _OUT
                if weighed and counts[b, l]:
                    logit += table[items[b, l], dimension]
                weights[b, h, l] = logit
                most = max(most, logit)
            for l in range(length):  # noqa: E741
                weights[b, h, l] -= most
    # of all users at once, for a window alone is too short for vector instructions
    exponentials(weights.reshape(weights.size), _ZERO)
    for b in range(len(items)):
        pooled[b] = _ZERO
        for h in range(heads):
            total = _ZERO
            for l in range(length):  # noqa: E741
                weights[b, h, l] = weights[b, h, l] if counts[b, l] else _ZERO
                total += weights[b, h, l]
            scale = _ONE / total if total > _ZERO else _ZERO
            for l in range(length):  # noqa: E741
                weights[b, h, l] *= scale
        for l in range(length):  # noqa: E741
            row = items[b, l]
            if counts[b, l]:
                for h in range(heads):
                    weight = weights[b, h, l]  # a name of its own: the compiler cannot know that pooled is not weights
                    for d in range(dimension):
                        pooled[b, h, d] += weight * table[row, d]


@compiled(fastmath=REORDER)
def _backward(
    gradient: np.ndarray, table: np.ndarray, items: np.ndarray, recency: np.ndarray, weights: np.ndarray,
    weighed: bool, by_table: np.ndarray, by_place: np.ndarray, by_bucket: np.ndarray,
) -> None:  # fmt: skip
    """Add to the last three the gradients of the table, the places and the buckets, out of that of the pooled vectors, `gradient` [B, H, D]."""
    heads, length = by_place.shape
    dimension = gradient.shape[2]
    by_weight = np.empty(length, np.float32)
    for b in range(len(items)):
        for h in range(heads):
            mean = np.float32(0)
            for l in range(length):  # noqa: E741
                weight, row = weights[b, h, l], items[b, l]
                if weight != 0:
                    product = np.float32(0)
                    for d in range(dimension):
                        product += gradient[b, h, d] * table[row, d]
                    for d in range(dimension):
                        by_table[row, d] += weight * gradient[b, h, d]
                    by_weight[l] = product
                    mean += weight * product
            # the softmax's own: each weight times how far its product lies above the mean
            for l in range(length):  # noqa: E741
                if weights[b, h, l] != 0:
                    by_logit = weights[b, h, l] * (by_weight[l] - mean)
                    by_place[h, l] += by_logit
                    by_bucket[h, recency[b, l]] += by_logit
                    if weighed:
                        by_table[items[b, l], dimension] += by_logit
