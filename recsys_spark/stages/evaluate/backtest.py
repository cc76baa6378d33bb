"""Measure the backtest: the lists of every model against the test fold, as `user_metrics/` and `metrics.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark import columns as c
from recsys_spark.errors import ContractViolation
from recsys_spark.metrics import beyond_accuracy
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.metrics.categories import Categories
from recsys_spark.stages.evaluate import groups, per_user, popularity_groups, summary
from recsys_spark.stages.evaluate.popularity_groups import UserPopularity
from recsys_spark.stages.evaluate.summary import UserMetrics
from recsys_spark.storage import tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

USER_METRICS = "user_metrics"


@dataclass(frozen=True)
class Catalogue:
    """The items table as arrays over its I rows, in order of item_idx.

    indices int32 [I] · owners int64 [I], the users of each item in training · `categories` and `popularity` (owners) by
    item index, which reaches the largest index of the items and of the training counts.
    """

    indices: np.ndarray
    owners: np.ndarray
    categories: Categories
    popularity: np.ndarray

    @classmethod
    def of(cls, items: pa.Table, item_counts: pa.Table) -> Catalogue:
        indices, counted = np.sort(np.asarray(items[c.ITEM_IDX])), np.asarray(item_counts[c.ITEM_IDX])
        n_items = int(max(indices.max(initial=0), counted.max(initial=0))) + 1
        owners = np.zeros(n_items, np.int64)
        owners[counted] = np.asarray(item_counts["count"])
        popularity = np.zeros(n_items, np.int64)
        popularity[indices] = owners[indices]
        return cls(indices, owners[indices], Categories.of(items, n_items), popularity)

    def counts(self, shown: pa.Table, model: str) -> np.ndarray:
        """Return int64 [I]: the number of lists of `model` with each item; `shown` is `per_user.shown_counts`."""
        rows = shown.filter(pc.equal(shown[c.MODEL], model))
        counts = np.zeros(len(self.popularity), np.int64)
        counts[np.asarray(rows[c.ITEM_IDX])] = np.asarray(rows["shown"])
        return counts[self.indices]


def measure(
    *,
    lists: DataFrame,
    positives: DataFrame,
    histories: DataFrame,
    catalogue: Catalogue,
    baselines: Sequence[str],
    models: Sequence[str],
    cutoffs: Sequence[int],
    gate_k: int,
    users_with_history: int,
    bootstrap: Bootstrap,
    bootstrap_users: int,
    folder: Path,
) -> dict[str, Any]:
    """Write `user_metrics` into `folder` and return the content of `metrics.json`, apart from cold start and diversity.

    `models` are the single models and fused, `baselines` the models without the network. Item counts are relative to
    `users_with_history`. The bootstrap uses about `bootstrap_users` users.
    """
    models, cutoffs = list(models), sorted(set(cutoffs))
    options = {"models": models, "cutoffs": cutoffs, "gate_k": gate_k, "categories": catalogue.categories}
    rows = per_user.measure(lists, positives, histories, **options).persist()
    try:
        tables.write(rows, folder / USER_METRICS, USER_METRICS)
        averages = per_user.means(rows)
        share = bootstrap_users / max([1, *(row["users"] for row in averages)])
        metrics = UserMetrics.of(models, cutoffs, averages, per_user.sampled(rows, share).toArrow())
    finally:
        rows.unpersist()
    popularity = popularity_groups.measure(
        lists, positives, histories, popularity=catalogue.popularity, k=gate_k, share=share
    )
    shown = per_user.shown_counts(lists, gate_k)
    counts = {model: catalogue.counts(shown, model) for model in models}
    _check(counts, metrics.users)
    diversity = {row[c.MODEL]: row[per_user.LIST_DIVERSITY] for row in averages if row[c.K] == gate_k}
    single = metrics.best_single(gate_k)
    return {
        **_accuracy(metrics, baselines, gate_k, bootstrap),
        **groups.compare(metrics, UserPopularity.of(popularity), single, gate_k, bootstrap),
        "beyond_accuracy": {
            m: _beyond_accuracy(counts[m], catalogue.owners, users_with_history, diversity.get(m)) for m in models
        },
        "concentration": {
            name: beyond_accuracy.concentration(values, catalogue.owners)
            for name, values in {"log": catalogue.owners, **counts}.items()
        },
    }


def _accuracy(metrics: UserMetrics, baselines: Sequence[str], k: int, bootstrap: Bootstrap) -> dict[str, Any]:
    pairs = summary.comparisons(metrics, baselines, k)
    return {
        "users": metrics.users,
        "bootstrap": {
            "users": len(metrics.values),
            "samples": bootstrap.samples,
            "confidence": bootstrap.confidence,
        },
        "models": metrics.models,
        "cutoffs": metrics.cutoffs,
        "gate_k": k,
        "best_baseline": metrics.best(baselines, k),
        "best_single": metrics.best_single(k),
        "accuracy": summary.accuracy(metrics, bootstrap),
        "differences": summary.differences(metrics, pairs, k, bootstrap),
    }


def _beyond_accuracy(
    shown: np.ndarray, owners: np.ndarray, users: int, diversity: float | None
) -> dict[str, float | None]:
    return {
        "coverage": beyond_accuracy.coverage(shown),
        "novelty": beyond_accuracy.novelty(shown, owners, users),
        "gini": beyond_accuracy.gini(shown),
        "diversity": diversity,
        "average_popularity": beyond_accuracy.average_popularity(shown, owners),
    }


def _check(counts: dict[str, np.ndarray], users: int) -> None:
    # a single model may have no list for users without history; the fused list always exists
    if users and not counts[c.FUSED].any():
        raise ContractViolation(
            f"table lists of the score stage has no {c.FUSED} list. Run jobs/score.py again with --force"
        )
