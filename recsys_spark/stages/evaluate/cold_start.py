"""Measure cold start: lists for users and of items that the split held out completely.

The score stage makes these lists; the result is `cold_start` in `metrics.json`.

Shapes:  U users
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.metrics.ranking import discounts, ideal_dcg
from recsys_spark.stages.evaluate import per_user, summary
from recsys_spark.stages.evaluate.summary import UserMetrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.stages.evaluate.backtest import Catalogue


@dataclass(frozen=True)
class Evaluator:
    """Measures lists at cutoff `k`. `histories` are those of the test fold."""

    histories: DataFrame
    catalogue: Catalogue
    k: int
    bootstrap: Bootstrap

    def measure(self, lists: DataFrame, positives: DataFrame, models: Sequence[str]) -> UserMetrics:
        """Return the metrics of all users who have lists, some thousands at most."""
        users = positives.join(lists, c.USER_IDX, "left_semi")
        options = {"cutoffs": [self.k], "gate_k": self.k, "categories": self.catalogue.categories}
        rows = per_user.measure(lists, users, self.histories, models=models, **options)
        return UserMetrics.of(list(models), [self.k], per_user.means(rows), rows.toArrow())

    def accuracy(self, metrics: UserMetrics) -> dict[str, Any]:
        """Return model -> metric -> {mean, low, high}."""
        return {m: by_k[str(self.k)] for m, by_k in summary.accuracy(metrics, self.bootstrap).items()}


def measure_users(lists: DataFrame, positives: DataFrame, evaluator: Evaluator) -> dict[str, Any]:
    """Return the accuracy for cold-start users.

    - users: their number
    - lists: fused (as served) and popularity (without segments) -> metric -> {mean, low, high}
    - difference: metric -> {mean, low, high, share_above} of fused minus popularity
    """
    pair = (c.FUSED, c.POPULARITY)
    metrics = evaluator.measure(lists, positives, pair)
    (gap,) = summary.differences(metrics, [pair], evaluator.k, evaluator.bootstrap)
    return {"users": metrics.users, "lists": evaluator.accuracy(metrics), "difference": gap["metrics"]}


def measure_items(
    lists: DataFrame, positives: DataFrame, all_lists: DataFrame, models: Sequence[str], evaluator: Evaluator
) -> dict[str, Any]:
    """Return the accuracy of lists that rank the cold-start items alone.

    - users, items, catalogue: number of users, of cold-start items, and of all items
    - models: name -> metric -> {mean, low, high}, for those of `models` that have lists
    - random: metric -> its expected value for a random order
    - share_of_places: share of cold-start items in the fused lists of `all_lists` at cutoff k
    """
    names = {row[0] for row in lists.select(c.MODEL).distinct().collect()}
    metrics = evaluator.measure(lists, positives, [name for name in models if name in names])
    items = positives.select(F.explode(c.ITEM_IDX).alias(c.ITEM_IDX)).distinct()
    users = positives.join(lists, c.USER_IDX, "left_semi")
    n_positives = np.asarray(users.select(F.size(c.ITEM_IDX)).toArrow()[0], np.int64)
    n_items = items.count()
    return {
        "users": metrics.users,
        "items": n_items,
        "catalogue": len(evaluator.catalogue.indices),
        "models": evaluator.accuracy(metrics),
        "random": random_order(n_positives, n_items, evaluator.k),
        "share_of_places": _share_of_places(all_lists, items, evaluator.k),
    }


def random_order(n_positives: np.ndarray, n_items: int, k: int) -> dict[str, float]:
    """Return the expected recall and NDCG at `k` of `n_items` items in random order, as means over users.

    `n_positives` int [U] of these items are positives of each user. Each place holds a hit with probability
    n_positives / n_items, so recall is k / n_items, and DCG is that probability times the sum of the discounts.
    """
    places = min(k, n_items)
    dcg = n_positives / n_items * discounts(k)[:places].sum()
    return {"recall": places / n_items, "ndcg": float(np.mean(dcg / ideal_dcg(n_positives, k)))}


def _share_of_places(lists: DataFrame, items: DataFrame, k: int) -> float | None:
    """Return the share of `items` in the fused lists at cutoff `k`, None without lists."""
    places = lists.where((F.col(c.MODEL) == c.FUSED) & (F.col(c.RANK) <= k))
    cold = F.avg(F.col("cold").isNotNull().cast("double"))
    marked = places.join(F.broadcast(items.withColumn("cold", F.lit(1))), c.ITEM_IDX, "left")
    share: float | None = marked.agg(cold).first()[0]
    return share
