"""The backtest pass: lists of every model against the test fold, into `user_metrics/` and `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from recsys_spark import columns as c
from recsys_spark.errors import ContractViolation
from recsys_spark.metrics import beyond_accuracy
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.stages.evaluate import groups, per_user, popularity_groups, summary
from recsys_spark.stages.evaluate.groups import Tastes
from recsys_spark.stages.evaluate.summary import Panel
from recsys_spark.storage import tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

USER_METRICS = "user_metrics"


@dataclass(frozen=True)
class Catalogue:
    """The items table as arrays over its I rows: indices int32 [I], owners int64 [I] (users who have each in training), and categories
    [1 + largest index, C] of all indices."""

    indices: np.ndarray
    owners: np.ndarray
    categories: sp.csr_matrix

    @classmethod
    def of(cls, items: pa.Table, item_counts: pa.Table) -> Catalogue:
        indices = np.sort(np.asarray(items[c.ITEM_IDX]))
        size = int(max(indices.max(initial=0), np.asarray(item_counts[c.ITEM_IDX]).max(initial=0))) + 1
        owners = np.zeros(size, np.int64)
        owners[np.asarray(item_counts[c.ITEM_IDX])] = np.asarray(item_counts["count"])
        return cls(indices, owners[indices], _categories(items, size))

    def popularity(self) -> np.ndarray:
        """int64 [1 + largest index]: the owners, by item index."""
        full = np.zeros(self.categories.shape[0], np.int64)
        full[self.indices] = self.owners
        return full

    def counts(self, table: pa.Table, model: str) -> np.ndarray:
        """int64 [I]: in how many lists of `model` each item stands (`table` as `per_user.shown_counts` gives it)."""
        own = table.filter(pc.equal(table[c.MODEL], model))
        full = np.zeros(self.categories.shape[0], np.int64)
        full[np.asarray(own[c.ITEM_IDX])] = np.asarray(own["shown"])
        return full[self.indices]


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
    known_users: int,
    bootstrap: Bootstrap,
    bootstrap_users: int,
    folder: Path,
) -> dict[str, Any]:
    """Write `user_metrics` into `folder` and return the tree of `metrics.json`.

    `models` are the single models and fused, `baselines` those that need no network, `known_users` the users that item counts are shares of.
    """
    models, cutoffs = list(models), sorted(set(cutoffs))
    options = {"models": models, "cutoffs": cutoffs, "gate_k": gate_k, "categories": catalogue.categories}
    rows = per_user.measure(lists, positives, histories, **options)
    averages, sample, share = _write(rows, folder, bootstrap_users)
    panel = Panel.of(models, cutoffs, averages, sample)
    popularity = catalogue.popularity()
    found = popularity_groups.measure(lists, positives, histories, popularity=popularity, k=gate_k, share=share)
    shown = per_user.shown_counts(lists, gate_k)
    counts = {model: catalogue.counts(shown, model) for model in models}
    _check(counts, panel.users)
    diversity = {row[c.MODEL]: row[per_user.DIVERSITY] for row in averages if row[c.K] == gate_k}
    beyond = {m: _beyond(counts[m], catalogue.owners, known_users, diversity.get(m)) for m in models}
    return finite(
        {
            **_accuracy(panel, baselines, gate_k, bootstrap),
            **groups.compare(panel, Tastes.of(found), _best_single(panel, gate_k), gate_k, bootstrap),
            "beyond_accuracy": beyond,
            "concentration": _concentration(counts, catalogue.owners),
        }
    )


def _write(rows: DataFrame, folder: Path, bootstrap_users: int) -> tuple[list[dict[str, Any]], pa.Table, float]:
    """Write `user_metrics`; returns `per_user.means`, the `per_user.sample` of at most about `bootstrap_users`, and its share of the users."""
    rows = rows.persist()
    try:
        tables.write(rows, folder / USER_METRICS, USER_METRICS)
        averages = per_user.means(rows)
        users = max((row["users"] for row in averages), default=0)
        share = bootstrap_users / max(users, 1)
        return averages, per_user.sample(rows, share), share
    finally:
        rows.unpersist()


def _accuracy(panel: Panel, baselines: Sequence[str], k: int, bootstrap: Bootstrap) -> dict[str, Any]:
    pairs = summary.comparisons(panel, baselines, k)
    how = {"users": len(panel.values), "samples": bootstrap.samples, "confidence": bootstrap.confidence}
    return {
        "users": panel.users,
        "bootstrap": how,
        "models": panel.models,
        "cutoffs": panel.cutoffs,
        "gate_k": k,
        "best_baseline": panel.best(baselines, k),
        "best_single": _best_single(panel, k),
        "accuracy": summary.accuracy(panel, bootstrap),
        "differences": summary.differences(panel, pairs, k, bootstrap),
    }


def _best_single(panel: Panel, k: int) -> str:
    return panel.best([m for m in panel.models if m != c.FUSED], k)


def finite(tree: Any) -> Any:
    """`tree` with floats of 9 decimals, so that the order of a sum on a cluster does not show, and None for what is no number."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(value) for value in tree]
    if isinstance(tree, float):
        return round(tree, 9) + 0.0 if math.isfinite(tree) else None
    return tree


def _beyond(shown: np.ndarray, owners: np.ndarray, users: int, diversity: float | None) -> dict[str, float | None]:
    return {
        "coverage": beyond_accuracy.coverage(shown),
        "novelty": beyond_accuracy.novelty(shown, owners, users),
        "gini": beyond_accuracy.gini(shown),
        "diversity": diversity,
        "average_popularity": beyond_accuracy.average_popularity(shown, owners),
    }


def _concentration(counts: dict[str, np.ndarray], owners: np.ndarray) -> dict[str, Any]:
    curves = {"log": owners, **counts}
    return {name: beyond_accuracy.concentration(values, owners) for name, values in curves.items()}


def _check(counts: dict[str, np.ndarray], users: int) -> None:
    # a single model may have nothing to say of users without history, the blend always has
    if users and not counts[c.FUSED].any():
        raise ContractViolation(f"table lists of the score stage has no {c.FUSED} list; run jobs/score.py again with --force")


def _categories(items: pa.Table, size: int) -> sp.csr_matrix:
    """float32 [size, C], 1 where an item has a category."""
    column = items[c.CATEGORIES].combine_chunks()
    lengths = np.asarray(column.value_lengths().fill_null(0), dtype=np.int64)
    names = column.flatten().dictionary_encode()
    rows = np.repeat(np.asarray(items[c.ITEM_IDX]), lengths)
    matrix = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, np.asarray(names.indices))),
        shape=(size, max(len(names.dictionary), 1)),
    )
    matrix.data[:] = 1  # a category named twice counts once
    return matrix
