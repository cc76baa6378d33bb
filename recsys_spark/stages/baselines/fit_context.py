"""The inputs of a fit: what the baselines stage hands to the function that a model's registry entry names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark import SparkContext
from pyspark.sql import DataFrame

from recsys_spark.stages.baselines.pairs import Pairs
from recsys_spark.stages.baselines.warm_start import WarmStart


@dataclass(frozen=True)
class FitContext:
    """The inputs of one fit. A fit reads its settings and the data that its entry names in `fits_on`."""

    spark: SparkContext
    events: DataFrame
    """The train fold: (user_idx, item_idx, event_ts, weight, ...), each pair once."""
    n_users: int
    n_items: int
    """Number of items, counting the padding item 0."""
    n_pairs: int
    tasks: int
    """Maximum number of parts of the pairs."""
    users: DataFrame | None = None
    """The table `users` if it has segments."""
    items: DataFrame | None = None
    """The table `items` if a model fits on it."""
    pairs: Pairs | None = None
    """The train fold on disk if a model fits on it."""
    warm_start: WarmStart | None = None
    """Item vectors of an earlier night that ALS may start from."""
    settings: Any = None
    """The section of the config that the model's entry names."""
