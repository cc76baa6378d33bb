"""The section `evaluate`: metrics of the backtest, gates of the release, and the report."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_spark.config.section import Count, NotNegative, Section, Seed, Share


class Gates(Section):
    """Conditions for publishing. null: this condition is not checked."""

    max_drop_below_best_baseline: NotNegative | None = 0.005
    """Maximum difference by which the blend's NDCG may be below the best baseline's."""
    min_ndcg: NotNegative | None = None
    """Minimum NDCG of the blend."""
    min_coverage: Share | None = 0.01
    """Minimum share of the catalogue that appears in the lists."""
    every_user_served: bool = True
    """Whether every user of the users table must have a list. false: not checked."""
    max_size_change: NotNegative | None = 0.5
    """Maximum relative change of the number of published rows since the last night. 0.5 allows 50%."""


class Evaluate(Section):
    """Metrics of the backtest, gates and the report."""

    cutoffs: Annotated[list[Count], Field(min_length=1)] = [5, 10, 20]
    """Cutoffs k of the metrics. None may be above score.top_n."""
    gate_k: Count = 10
    """Cutoff k of the gates and plots. Must be one of cutoffs."""
    bootstrap_samples: Count = 1000
    """Number of resamples of the paired bootstrap."""
    bootstrap_users: Count = 200_000
    """Maximum number of users in the bootstrap, chosen by hash."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of the intervals."""
    example_users: Count = 12
    """Number of users that the report shows as examples."""
    seed: Seed = 7
    """Seed of the bootstrap."""
    gates: Gates = Gates()
