"""Negatives for the sampled softmax: uniform over the catalogue, shared by a batch, the same on every run.

Shapes:  I items counting the padding item 0 · N negatives · B examples · C = B + N candidates
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.networks.losses import log_expected_counts


class Candidates:
    """What a batch's targets are told from: the targets of the whole batch and N uniform negatives, with their log expected counts."""

    def __init__(self, counts: Tensor, batch: int, negatives: int):
        self.n_items = len(counts)
        self.negatives = negatives
        self.log_expected = log_expected_counts(counts, batch, negatives)

    def draw(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids int64 [C], log expected counts [C]); item 0 is never drawn. `generator` lives on the CPU, so that a GPU draws alike."""
        uniform = torch.randint(1, self.n_items, (self.negatives,), generator=generator)
        ids = torch.cat([targets, uniform.to(targets.device)])
        return ids, self.log_expected.to(targets.device)[ids]
