"""Summarise the rows of users for `metrics.json`: means with intervals, and comparisons of models. numpy and Arrow.

Shapes:  U users of the bootstrap · Q cutoffs · M models, fused last · N metrics, in the order of `METRICS`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.columns import FUSED, MODEL, SEGMENT, USER_IDX, K
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.metrics.ranking import METRICS


@dataclass(frozen=True)
class UserMetrics:
    """The metrics of the users in the bootstrap, and the means over all users.

    values float64 [U, Q, M, N] · means float64 [Q, M, N] over all `users` · history int [U], the length of the history
    · segments str | None [U]. Users are in order of user_idx.
    """

    models: list[str]
    cutoffs: list[int]
    users: int
    values: np.ndarray
    means: np.ndarray
    history: np.ndarray
    segments: np.ndarray

    @classmethod
    def of(cls, models: list[str], cutoffs: list[int], averages: list[dict[str, Any]], rows: pa.Table) -> UserMetrics:
        """Arrange the result of `per_user.means` and the rows of `per_user.measure`, maybe of a sample of the users.

        `cutoffs` must rise.
        """
        shape = (len(cutoffs), len(models), len(METRICS))
        means = np.full(shape, np.nan)
        for row in averages:
            means[cutoffs.index(row[K]), models.index(row[MODEL])] = [row[name] for name in METRICS]
        code = np.asarray(pc.index_in(rows[MODEL], pa.array(models)))
        order = np.lexsort((code, np.asarray(rows[K]), np.asarray(rows[USER_IDX])))
        columns = [np.asarray(rows[name], dtype=np.float64)[order] for name in METRICS]
        values = np.stack(columns, axis=-1).reshape(-1, *shape)
        first = order[:: shape[0] * shape[1]]
        history = np.asarray(pc.fill_null(rows["history"], 0))[first]
        segments = np.array(rows[SEGMENT].to_pylist(), dtype=object)[first]
        users = max((row["users"] for row in averages), default=0)
        if len(values) == users > 0:  # no sample: use the sums of numpy, whose order does not depend on Spark
            means = values.mean(axis=0)
        return cls(models, cutoffs, users, values, means, history, segments)

    def mean(self, model: str, k: int, metric: str) -> float:
        return float(self.means[self.cutoffs.index(k), self.models.index(model), METRICS.index(metric)])

    def best(self, models: Sequence[str], k: int) -> str:
        """Return the model with the highest mean NDCG at `k`, the first of equals."""
        return max(models, key=lambda m: np.nan_to_num(self.mean(m, k, "ndcg"), nan=-1.0))

    def best_single(self, k: int) -> str:
        """Return `best` of all models but the fused list."""
        return self.best([m for m in self.models if m != FUSED], k)


def accuracy(metrics: UserMetrics, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return model -> k -> metric -> {mean, low, high}."""
    estimates, _ = bootstrap(metrics.means.ravel(), metrics.values.reshape(-1, metrics.means.size))
    flat = iter(estimates)
    tree: dict[str, Any] = {model: {} for model in metrics.models}
    for k in metrics.cutoffs:
        for model in metrics.models:
            tree[model][str(k)] = {metric: next(flat).plain() for metric in METRICS}
    return tree


def differences(
    metrics: UserMetrics, pairs: Sequence[tuple[str, str]], k: int, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Return for each (model, against) the mean difference at `k`: metric -> {mean, low, high, share_above}."""
    q = metrics.cutoffs.index(k)
    left, right = ([metrics.models.index(pair[side]) for pair in pairs] for side in (0, 1))
    # subtract user by user, so that equal models differ by exactly 0, whatever the order of a sum
    values = (metrics.values[:, q, left] - metrics.values[:, q, right]).reshape(len(metrics.values), -1)
    estimates, above = bootstrap((metrics.means[q, left] - metrics.means[q, right]).ravel(), values)
    flat = iter([{**e.plain(), "share_above": float(share)} for e, share in zip(estimates, above)])
    return [{"model": a, "against": b, "k": k, "metrics": {metric: next(flat) for metric in METRICS}} for a, b in pairs]


def comparisons(metrics: UserMetrics, baselines: Sequence[str], k: int) -> list[tuple[str, str]]:
    """Return the pairs to compare: each model with the best baseline, and fused with the best single model."""
    baseline, single = metrics.best(baselines, k), metrics.best_single(k)
    pairs = [(model, baseline) for model in metrics.models if model != baseline]
    return pairs if single == baseline else [*pairs, (FUSED, single)]


def finite(tree: Any) -> Any:
    """Return `tree` with floats rounded to 9 decimals and with None for NaN and infinity.

    The rounding hides the order in which a cluster adds numbers up.
    """
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(value) for value in tree]
    if isinstance(tree, float):
        return round(tree, 9) + 0.0 if math.isfinite(tree) else None
    return tree
