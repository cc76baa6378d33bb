"""The section `score`: candidates, fusion, and the rules of the final list."""

from __future__ import annotations

from typing import Literal

from recsys_spark.config.section import Count, Name, Section, Share


class Score(Section):
    """The top N of every user."""

    top_n: Count = 20
    """Number of items in a published list."""
    candidates: Count = 200
    """Number of candidates of each model for the fusion. More candidates can improve the fused list and cost time and
    memory."""
    user_batch: Count = 1024
    """Number of users that a task scores at a time. Raise it on a GPU."""
    item_tile: Count = 1024
    """Number of items that a task scores at a time. Lower it if the scores of 256 users do not fit into the processor's
    cache."""
    partitions: Count | None = None
    """Number of scoring tasks. null: one per file of histories in the release, two per core in the backtest."""
    fusion_users: Count = 5000
    """Maximum number of validation users for learning the fusion, chosen by hash."""
    fusion: Literal["auto", "blend", "ranker"] = "auto"
    """How the models' candidates are ordered. blend: by a weighted sum. ranker: by a learned reranker of the blend's
    best items. auto: by the better of the two on the validation set."""
    drop: bool = True
    """Whether to drop models from the release that do not improve the fused list."""
    diversity: Share = 0.0
    """Weight of diversity in maximal marginal relevance (1 - lambda). Higher values put less similar items into a list.
    0: no reranking."""
    max_per_category: Count | None = None
    """Maximum number of items of one category in a list. A list may become shorter than top_n. null: no limit."""
    blocked_items: Name | None = None
    """Text file with ids of items that are never recommended, one per line. null: none."""
