"""Negatives for the sampled softmax: uniform over the catalogue, shared by a batch, the same on every run.

Shapes:  I items counting the padding item 0 · T targets · B examples · N negatives · C <= B + N candidates
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_spark.networks.losses import log_expected_counts


class Candidates:
    """What a batch's targets are told from: as many targets of the whole batch as it has examples, and N uniform negatives."""

    def __init__(self, counts: Tensor, batch: int, negatives: int):
        self.n_items = len(counts)
        self.batch = batch
        self.negatives = negatives
        self.log_expected = log_expected_counts(counts, batch, negatives)

    def draw(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids int64 [C], ascending, each once; float32 [C] the log of how often each was drawn, less that of how often this was expected).

        `targets` int64 [T]; of more than B these are drawn at random. Item 0 is never drawn. `generator` lives on the CPU, so that a GPU draws
        alike.
        """
        uniform = torch.randint(1, self.n_items, (self.negatives,), generator=generator)
        if len(targets) > self.batch:
            chosen = torch.randperm(len(targets), generator=generator)[: self.batch]
            targets = targets[chosen.to(targets.device)]
        drawn = torch.cat([targets, uniform.to(targets.device)])
        ids, times = drawn.unique(return_counts=True)
        return ids, times.log() - self.log_expected.to(targets.device)[ids]
