"""Softmax losses over cosines: full for small catalogues, sampled for large ones.

Shapes:  B examples · D dimension · I items counting the padding item 0 · N uniform negatives · C = B + N candidates
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def full_softmax(users: Tensor, items: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of `targets` (int64 [B]) among all items but the padding; users [B, D], items [I, D], unit vectors."""
    logits = users @ items[1:].T / temperature
    return F.cross_entropy(logits.float(), targets - 1)


def sampled_softmax(
    users: Tensor, candidates: Tensor, ids: Tensor, log_expected: Tensor, temperature: float
) -> Tensor:
    """Mean cross-entropy of each target among the batch's targets and shared uniform negatives.

    `ids` (int64 [C]) are the B targets, then N negatives; `candidates` [C, D] their unit vectors, `log_expected` [C] the logarithm of how
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
