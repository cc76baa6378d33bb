"""The section `evaluate`: metrics of the backtest, gates of the release, and the report."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recsys_spark.config.section import Count, NotNegative, Section, Seed, Share


class Gates(Section):
    """Conditions for publishing. null: this condition is not checked."""

    max_drop_below_best_baseline: NotNegative | None = Field(
        default=0.005, description="Maximum difference by which the blend's NDCG may be below the best baseline's."
    )
    min_ndcg: NotNegative | None = Field(default=None, description="Minimum NDCG of the blend.")
    min_coverage: Share | None = Field(
        default=0.01, description="Minimum share of the catalogue that appears in the lists."
    )
    every_user_served: bool = Field(
        default=True, description="Whether every user of the users table must have a list. false: not checked."
    )
    max_size_change: NotNegative | None = Field(
        default=0.5,
        description="Maximum relative change of the number of published rows since the last night. 0.5 allows 50%.",
    )


class Evaluate(Section):
    """Metrics of the backtest, gates and the report."""

    cutoffs: list[Count] = Field(
        default=[5, 10, 20],
        min_length=1,
        description="Cutoffs k of the metrics. None may be above score.top_n.",
    )
    gate_k: Count = Field(default=10, description="Cutoff k of the gates and plots. Must be one of cutoffs.")
    bootstrap_samples: Count = Field(default=1000, description="Number of resamples of the paired bootstrap.")
    bootstrap_users: Count = Field(
        default=200_000, description="Maximum number of users in the bootstrap, chosen by hash."
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.95, description="Confidence level of the intervals."
    )
    example_users: Count = Field(default=12, description="Number of users that the report shows as examples.")
    seed: Seed = Field(default=7, description="Seed of the bootstrap.")
    gates: Gates = Gates()
