"""How newcomers are served: the lists for users, and of items, that were held out whole, against what was hidden. What `metrics.json` says of it.

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
from recsys_spark.stages.evaluate import per_user, summary
from recsys_spark.stages.evaluate.summary import Panel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.stages.evaluate.backtest import Catalogue


@dataclass(frozen=True)
class Bench:
    """What lists are held against: the histories as of test, the items, the cut k, and how intervals are made."""

    histories: DataFrame
    catalogue: Catalogue
    k: int
    bootstrap: Bootstrap

    def panel(self, lists: DataFrame, positives: DataFrame, models: Sequence[str]) -> Panel:
        """Of all users who have lists (some thousands at most), at k."""
        asked = positives.join(lists, c.USER_IDX, "left_semi")
        options = {"cutoffs": [self.k], "gate_k": self.k, "categories": self.catalogue.categories}
        rows = per_user.measure(lists, asked, self.histories, models=models, **options)
        return Panel.of(list(models), [self.k], per_user.means(rows), per_user.sample(rows, 1))

    def accuracy(self, panel: Panel) -> dict[str, Any]:
        """model -> metric -> {mean, low, high}."""
        return {m: by_k[str(self.k)] for m, by_k in summary.accuracy(panel, self.bootstrap).items()}


def measure_users(lists: DataFrame, positives: DataFrame, bench: Bench) -> dict[str, Any]:
    """users · lists: name -> metric -> {mean, low, high} · difference: metric -> {mean, low, high, share_above}, of segment against popularity."""
    pair = (c.SEGMENT, c.POPULARITY)
    panel = bench.panel(lists, positives, pair)
    (gap,) = summary.differences(panel, [pair], bench.k, bench.bootstrap)
    return {"users": panel.users, "lists": bench.accuracy(panel), "difference": gap["metrics"]}


def measure_items(
    lists: DataFrame, positives: DataFrame, ordinary: DataFrame, models: Sequence[str], bench: Bench
) -> dict[str, Any]:
    """users · items: how many were held out, and of how many in the `catalogue` · models: name -> metric -> {mean, low, high}, of the best k of
    these items, for those of `models` that have lists · chance: metric -> what guessing among them expects · share_of_places: that they
    take in the `ordinary` fused lists cut at k."""
    named = {row[0] for row in lists.select(c.MODEL).distinct().collect()}
    panel = bench.panel(lists, positives, [name for name in models if name in named])
    held_out = positives.select(F.explode(c.ITEM_IDX).alias(c.ITEM_IDX)).distinct()
    asked = positives.join(lists, c.USER_IDX, "left_semi")
    chosen = np.asarray(asked.select(F.size(c.ITEM_IDX)).toArrow()[0], np.int64)
    n_items = held_out.count()
    return {
        "users": panel.users,
        "items": n_items,
        "catalogue": len(bench.catalogue.indices),
        "models": bench.accuracy(panel),
        "chance": chance(chosen, n_items, bench.k),
        "share_of_places": _share_of_places(ordinary, held_out, bench.k),
    }


def chance(chosen: np.ndarray, n_items: int, k: int) -> dict[str, float]:
    """What the first k of `n_items` items in an order drawn by lot are worth on average, to users who chose `chosen` int [U] of them.

    Each place holds a hit with probability chosen / n_items, so recall is k / n_items, and NDCG that probability times all discounts over
    those of the ideal list, min(k, chosen) long.
    """
    places = min(k, n_items)
    discounts = np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))
    ideal = discounts[np.minimum(k, chosen) - 1]
    return {
        "recall": places / n_items,
        "ndcg": float(np.mean(chosen / n_items * discounts[places - 1] / ideal)),
    }


def _share_of_places(lists: DataFrame, items: DataFrame, k: int) -> float | None:
    """The part of the places in fused lists cut at k that `items` take; None without lists."""
    places = lists.where((F.col(c.MODEL) == c.FUSED) & (F.col(c.RANK) <= k))
    theirs = F.avg(F.col("theirs").isNotNull().cast("double"))
    marked = places.join(F.broadcast(items.withColumn("theirs", F.lit(1))), c.ITEM_IDX, "left")
    found: float | None = marked.agg(theirs).first()[0]
    return found
