"""The section `features`: histories and training examples of the network."""

from __future__ import annotations

from typing import Literal

from recsys_spark.config.section import Count, Section, Seed


class Features(Section):
    """Histories and training examples of the network."""

    history_length: Count = 50
    """Number of items of a history that the network reads, the newest ones."""
    examples: Literal["targets", "users"] = "targets"
    """Kind of training example. targets: an item and the history before it. users: the whole history of a user with at
    least two items. All encoders but mlp need users."""
    max_examples_per_user: Count = 50
    """targets: maximum number of examples of a user, made of the newest items. Lower it if active users dominate the
    training."""
    row_groups: Count = 8
    """Minimum number of row groups, all of one size. Must be a multiple of train.workers. Raised as needed to keep a
    group under 64 MiB."""
    min_category_items: Count = 5
    """Minimum number of items with the same content feature. Rarer features are dropped."""
    seed: Seed = 7
    """Seed of the order of the examples."""
