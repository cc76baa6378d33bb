"""Compare groups of users: the accuracy and popularity bias of each group, and the gap between groups. numpy and Arrow.

Shapes:  U users of the bootstrap, in order of user_idx · R users of one group · S resamples · C columns of `_values`
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_spark.columns import FUSED
from recsys_spark.metrics.bootstrap import Bootstrap, Estimate, percentiles, resampled_means, widest_gap
from recsys_spark.metrics.popularity_bias import lift
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.stages.evaluate.popularity_groups import UserPopularity
from recsys_spark.stages.evaluate.summary import UserMetrics

GROUP_METRICS = ("ndcg", "recall", "hit_rate")
MAX_SEGMENTS = 12
MIN_USERS = 30
"""Minimum size of a group that takes part in the gap. The bootstrap underestimates the variance of smaller groups."""

Groups = list[tuple[str, np.ndarray]]
"""The groups of one grouping: name, and int [R] positions of its users."""


def compare(
    metrics: UserMetrics, popularity: UserPopularity, single: str, k: int, bootstrap: Bootstrap
) -> dict[str, list[dict[str, Any]]]:
    """Return `groups` and `gaps` of `metrics.json`, at cutoff `k`.

    - A group has `by`, `group`, `users`, the `metrics` of the blend and of the model `single` (`best_single`) as
      metric -> {mean, low, high}, and the `popularity` of histories and lists with their lift, for users with both.
    - A gap has `by`, the groups with the highest and the lowest NDCG of the blend, and the difference (`widest_gap`). A
      grouping with fewer than two groups of `MIN_USERS` has no gap.
    """
    values = _values(metrics, popularity, single, k)
    result: dict[str, list[dict[str, Any]]] = {"groups": [], "gaps": []}
    for by, groups in groupings(metrics, popularity).items():
        # groups of equal size need different seeds: with the same draws their gap would look too certain
        resampled = [
            resampled_means(values[rows], bootstrap.samples, bootstrap.seed + at) for at, (_, rows) in enumerate(groups)
        ]
        result["groups"] += [
            {"by": by, "group": name, "users": len(rows), **_entry(values[rows], means, bootstrap.confidence)}
            for (name, rows), means in zip(groups, resampled)
        ]
        result["gaps"] += _gap(by, groups, values[:, 0], [means[:, 0] for means in resampled], bootstrap.confidence)
    return result


def groupings(metrics: UserMetrics, popularity: UserPopularity) -> dict[str, Groups]:
    """Return quarters by history length, the largest segments and the rest, and thirds by popularity of the history."""
    return {
        "history": _by_history(metrics.history),
        "segment": _by_segment(metrics.segments),
        "popularity": _by_popularity(popularity),
    }


def _values(metrics: UserMetrics, popularity: UserPopularity, single: str, k: int) -> np.ndarray:
    """Return float64 [U, C]: `GROUP_METRICS` of the blend, then of `single`, then profile, listed and known.

    known is 1 where profile and listed are both known; elsewhere all three are 0.
    """
    q, models = metrics.cutoffs.index(k), [metrics.models.index(name) for name in (FUSED, single)]
    columns = [METRICS.index(name) for name in GROUP_METRICS]
    accuracy = metrics.values[:, q, models][:, :, columns].reshape(-1, 2 * len(columns))
    known = ~(np.isnan(popularity.profile) | np.isnan(popularity.listed))
    means = np.stack([np.where(known, x, 0.0) for x in (popularity.profile, popularity.listed)], axis=1)
    return np.hstack([accuracy, means, known[:, None]])


def _entry(values: np.ndarray, resampled: np.ndarray, confidence: float) -> dict[str, Any]:
    """Return the metrics of one group from its `values` [R, C] and their resampled means [S, C]."""
    n, means, bounds = len(GROUP_METRICS), values.mean(axis=0), percentiles(resampled, confidence)
    estimates = [Estimate(*map(float, cell)).plain() for cell in zip(means[: 2 * n], *bounds[:, : 2 * n])]
    # profile and listed are sums over the same users, so their ratio needs no count
    low, high = percentiles(lift(resampled[:, -3], resampled[:, -2]), confidence)
    profile, listed = (means[[-3, -2]] / means[-1]) if means[-1] else (np.nan, np.nan)
    lifted = Estimate(float(lift(profile, listed)), float(low), float(high))
    return {
        "metrics": dict(zip(GROUP_METRICS, estimates[:n])),
        "best_single": dict(zip(GROUP_METRICS, estimates[n:])),
        "popularity": {"profile": float(profile), "list": float(listed), "lift": lifted.plain()},
    }


def _gap(
    by: str, groups: Groups, ndcg: np.ndarray, resampled: list[np.ndarray], confidence: float
) -> list[dict[str, Any]]:
    """Return one entry or none; `ndcg` is float64 [U], `resampled` [S] for each group."""
    large = [at for at, (_, rows) in enumerate(groups) if len(rows) >= MIN_USERS]
    if len(large) < 2:
        return []
    means = np.array([ndcg[groups[at][1]].mean() for at in large])
    best, worst, gap = widest_gap(means, np.stack([resampled[at] for at in large], axis=1), confidence)
    highest, lowest = groups[large[best]][0], groups[large[worst]][0]
    return [{"by": by, "best": highest, "worst": lowest, "groups": len(large), "ndcg": gap.plain()}]


def _by_history(history: np.ndarray) -> Groups:
    if not len(history):
        return []
    edges = np.unique(np.quantile(history, [0.25, 0.5, 0.75], method="lower"))
    return [
        (_range(f"{history[rows].min():,}", f"{history[rows].max():,}"), rows)
        for rows in _cut(history, edges)
        if len(rows)
    ]


def _by_segment(segments: np.ndarray) -> Groups:
    names, counts = np.unique([s for s in segments if s is not None], return_counts=True)
    largest = [str(names[i]) for i in np.lexsort((names, -counts))[:MAX_SEGMENTS]]
    groups = [(name, np.flatnonzero(segments == name)) for name in largest]
    others = np.flatnonzero(~np.isin(segments.astype(str), largest))
    return [*groups, ("others or unknown", others)] if groups and len(others) else groups


def _by_popularity(popularity: UserPopularity) -> Groups:
    """Return thirds by the share of popular items in the history, then by its mean popularity: niche to mainstream.

    Abdollahpouri et al. (2019) cut at a fifth and at four fifths of the users. Thirds have equal size, so that their
    estimates are equally certain. Equal users stay in one group; a single group is no grouping.
    """
    known = np.flatnonzero(~np.isnan(popularity.popular))
    if not len(known):
        return []
    keys = np.stack([popularity.popular, popularity.profile], axis=1)[known]
    place = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    groups = []
    parts = _cut(place, np.quantile(place, [1 / 3, 2 / 3], method="lower"))
    for name, rows in zip(("niche", "mixed", "mainstream"), parts):
        if len(rows):
            percent = 100 * popularity.popular[known[rows]]
            groups.append((f"{name} ({_range(f'{percent.min():.0f}', f'{percent.max():.0f}')}%)", known[rows]))
    return groups if len(groups) > 1 else []


def _cut(values: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """Return the positions of the values in (-inf, edge 0], (edge 0, edge 1], …, (last edge, inf); any may be empty."""
    group = np.searchsorted(edges, values, side="left")
    return [np.flatnonzero(group == g) for g in range(len(edges) + 1)]


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low}–{high}"
