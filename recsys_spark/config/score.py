"""The section `score`: candidates, fusion, and the rules of the final list."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys_spark.config.section import Count, Name, Section, Share


class Score(Section):
    """The top N of every user."""

    top_n: Count = Field(default=20, description="Number of items in a published list.")
    candidates: Count = Field(
        default=200,
        description="Number of candidates of each model for the fusion. More candidates can improve the fused list and"
        " cost time and memory.",
    )
    user_batch: Count = Field(
        default=1024, description="Number of users that a task scores at a time. Raise it on a GPU."
    )
    item_tile: Count = Field(
        default=1024,
        description="Number of items that a task scores at a time. Lower it if the scores of 256 users do not fit"
        " into the processor's cache.",
    )
    partitions: Count | None = Field(
        default=None,
        description="Number of scoring tasks. null: one per file of histories in the release, two per core in the"
        " backtest.",
    )
    fusion_users: Count = Field(
        default=5000, description="Maximum number of validation users for learning the fusion, chosen by hash."
    )
    fusion: Literal["auto", "blend", "ranker"] = Field(
        default="auto",
        description="How the models' candidates are ordered. blend: by a weighted sum. ranker: by a learned reranker of"
        " the blend's best items. auto: by the better of the two on the validation set.",
    )
    drop: bool = Field(
        default=True, description="Whether to drop models from the release that do not improve the fused list."
    )
    diversity: Share = Field(
        default=0.0,
        description="Weight of diversity in maximal marginal relevance (1 - lambda). Higher values put less similar"
        " items into a list. 0: no reranking.",
    )
    max_per_category: Count | None = Field(
        default=None,
        description="Maximum number of items of one category in a list. A list may become shorter than top_n. null: no"
        " limit.",
    )
    blocked_items: Name | None = Field(
        default=None, description="Text file with ids of items that are never recommended, one per line. null: none."
    )
