"""The plan of a training and its progress: number of epochs, learning rate, early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from recsys_spark.stages.train.job_file import TrainSettings


@dataclass(frozen=True)
class Plan:
    """At most `epochs` of `steps` steps each, and only as many as fit into `seconds`.

    The learning rate falls to 0 over `decay_epochs`. `warm`: the network starts from trained weights.
    """

    settings: TrainSettings
    epochs: int
    decay_epochs: int
    steps: int
    seconds: float | None = None
    warm: bool = False

    def limited_to(self, epochs: int | None) -> Plan:
        """Return the plan with only so many epochs, at whose end the learning rate is 0. None: the plan as it is."""
        return replace(self, epochs=epochs, decay_epochs=epochs) if epochs else self

    def epochs_in_time(self, epoch_seconds: float) -> int | None:
        """Return how many epochs of so many seconds fit into `seconds`, at least two. None if all do."""
        if not self.seconds:
            return None
        epochs = max(2, int(self.seconds / epoch_seconds))
        return epochs if epochs < self.epochs else None

    def learning_rate(self, at: float, workers: int) -> float:
        """Return the rate after `at` epochs: a linear rise over warmup_epochs, then a linear fall to 0.

        The fall ends with `decay_epochs`. The release, which may stop earlier, has the same rates as the backtest.
        """
        warmup = self.settings.warmup_epochs
        rise = at / warmup if warmup else 1.0
        fall = (self.decay_epochs - at) / max(self.decay_epochs - warmup, 1e-9)
        return self.settings.learning_rate * workers * max(min(rise, fall, 1.0), 0.0)

    def kl_weight(self, at: float) -> float:
        """Return the weight of the KL term after `at` epochs. It rises linearly over `decay_epochs`, unless `warm`."""
        return self.settings.kl_weight * (1.0 if self.warm else min(at / self.decay_epochs, 1.0))


@dataclass
class Progress:
    """The epochs so far, as entries of training.json. Without validation the best epoch is the last one."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_ndcg: float = -math.inf
    epoch_limit: int | None = None
    """Number of epochs that fit into the plan's time, if it is less than the plan's epochs."""

    def add(self, entry: dict[str, Any]) -> bool:
        """Add an epoch. Return True if it is the best so far."""
        self.epochs.append(entry)
        ndcg = -math.inf if entry["ndcg"] is None else entry["ndcg"]
        if entry["ndcg"] is not None and ndcg <= self.best_ndcg:
            return False
        self.best_epoch, self.best_ndcg = entry["epoch"], ndcg
        return True

    def done(self, plan: Plan) -> bool:
        waited = len(self.epochs) - self.best_epoch
        return len(self.epochs) >= plan.epochs or waited >= plan.settings.patience
