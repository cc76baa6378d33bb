"""From the per-user rows to what `metrics.json` says of accuracy: means with intervals and comparisons. numpy and Arrow.

Shapes:  U users of the bootstrap · Q cutoffs · M models, fused last · N metrics, in the order of `METRICS`
"""

from __future__ import annotations

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
class Panel:
    """values float64 [U, Q, M, N] of the bootstrap's users · means float64 [Q, M, N] over all `users` · history int [U] · segments str | None [U]"""

    models: list[str]
    cutoffs: list[int]
    users: int
    values: np.ndarray
    means: np.ndarray
    history: np.ndarray
    segments: np.ndarray

    @classmethod
    def of(cls, models: list[str], cutoffs: list[int], averages: list[dict[str, Any]], rows: pa.Table) -> Panel:
        """`averages` as `per_user.means` gives them, `rows` as `per_user.sample` does; users in order of their index."""
        shape = (len(cutoffs), len(models), len(METRICS))
        means = np.full(shape, np.nan)
        for row in averages:
            means[cutoffs.index(row[K]), models.index(row[MODEL])] = [row[name] for name in METRICS]
        code = np.asarray(pc.index_in(rows[MODEL], pa.array(models)))
        order = np.lexsort((code, np.asarray(rows[K]), np.asarray(rows[USER_IDX])))
        # cutoffs rise, so that sorting by k is sorting by their position
        values = np.stack([np.asarray(rows[name], dtype=np.float64)[order] for name in METRICS], axis=-1).reshape(
            -1, *shape
        )
        first = order[:: shape[0] * shape[1]]
        history = np.asarray(pc.fill_null(rows["history"], 0))[first]
        segments = np.array(rows[SEGMENT].to_pylist(), dtype=object)[first]
        users = max((row["users"] for row in averages), default=0)
        return cls(
            models,
            cutoffs,
            users,
            values,
            values.mean(axis=0) if len(values) == users > 0 else means,
            history,
            segments,
        )

    def mean(self, model: str, k: int, metric: str) -> float:
        return float(self.means[self.cutoffs.index(k), self.models.index(model), METRICS.index(metric)])

    def best(self, models: Sequence[str], k: int) -> str:
        """The model of highest mean NDCG at `k`, the first of equals."""
        return max(models, key=lambda m: np.nan_to_num(self.mean(m, k, "ndcg"), nan=-1.0))


def accuracy(panel: Panel, bootstrap: Bootstrap) -> dict[str, Any]:
    """model -> k -> metric -> {mean, low, high}."""
    found, _ = bootstrap(panel.means.ravel(), panel.values.reshape(-1, panel.means.size))
    flat = iter(found)
    tree: dict[str, Any] = {model: {} for model in panel.models}
    for k in panel.cutoffs:
        for model in panel.models:
            tree[model][str(k)] = {metric: next(flat).plain() for metric in METRICS}
    return tree


def differences(panel: Panel, pairs: Sequence[tuple[str, str]], k: int, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """For each (model, against): metric -> {mean, low, high, share_above} of the user-by-user difference at `k`."""
    q = panel.cutoffs.index(k)
    left, right = ([panel.models.index(pair[side]) for pair in pairs] for side in (0, 1))
    # users' differences first: two equal models then differ by exactly 0, whatever the order of a sum
    values = (panel.values[:, q, left] - panel.values[:, q, right]).reshape(len(panel.values), -1)
    found, above = bootstrap((panel.means[q, left] - panel.means[q, right]).ravel(), values)
    parts = iter([{**e.plain(), "share_above": float(a)} for e, a in zip(found, above)])
    return [
        {"model": a, "against": b, "k": k, "metrics": {metric: next(parts) for metric in METRICS}} for a, b in pairs
    ]


def comparisons(panel: Panel, baselines: Sequence[str], k: int) -> list[tuple[str, str]]:
    """Each model against the best baseline, and fused against the best single model."""
    baseline = panel.best(baselines, k)
    single = panel.best([m for m in panel.models if m != FUSED], k)
    pairs = [(model, baseline) for model in panel.models if model != baseline]
    return pairs if single == baseline else [*pairs, (FUSED, single)]
