"""Whether all kinds of users are served alike: accuracy and popularity bias of groups of users, and how far apart the groups are. numpy and Arrow.

Shapes:  U users of the bootstrap, in order of their index · R users of one group · S resamples · C columns, as `_values` has them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_spark.columns import FUSED, USER_IDX
from recsys_spark.metrics.bootstrap import Bootstrap, Estimate, percentiles, resampled_means, widest_gap
from recsys_spark.metrics.popularity_bias import lift
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.stages.evaluate.summary import Panel

GROUP_METRICS = ("ndcg", "recall", "hit_rate")
MOST_SEGMENTS = 12
LEAST_USERS = 30
"""A smaller group takes no part in the gap: a bootstrap of a few users does not know how little they tell."""

Parts = list[tuple[str, np.ndarray]]
"""The groups of one grouping: name, and int [R] positions of its users."""


@dataclass(frozen=True)
class Tastes:
    """float64 [U] each, NaN where it is unknown: mean popularity of a user's history (`profile`) and list (`listed`), and the share of popular
    items in the history (`popular`)."""

    profile: np.ndarray
    listed: np.ndarray
    popular: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Tastes:
        """`table` as `taste.measure` gives it."""
        order = np.argsort(np.asarray(table[USER_IDX]))
        profile, listed, popular = (
            np.asarray(table[name], np.float64)[order] for name in ("profile", "listed", "popular")
        )
        return cls(profile, listed, popular)


def compare(panel: Panel, tastes: Tastes, single: str, k: int, bootstrap: Bootstrap) -> dict[str, list[dict[str, Any]]]:
    """`groups` and `gaps` of `metrics.json`, at cutoff `k`.

    A group: by, group, users, `metrics` of the blend and `best_single` of the model `single`, metric -> {mean, low, high}, and `popularity` of
    profile and list with their lift, of the users who have both. A gap: by, and the group of the highest and of the lowest NDCG of the blend
    with their difference, as `widest_gap`; none where fewer than two groups have `LEAST_USERS`.
    """
    values = _values(panel, tastes, single, k)
    found: dict[str, list[dict[str, Any]]] = {"groups": [], "gaps": []}
    for by, parts in groupings(panel, tastes).items():
        # a seed for each: two groups of one size must not draw alike, or their gap would look surer than it is
        resampled = [
            resampled_means(values[rows], bootstrap.samples, bootstrap.seed + at) for at, (_, rows) in enumerate(parts)
        ]
        found["groups"] += [
            {"by": by, "group": name, "users": len(rows), **_entry(values[rows], means, bootstrap.confidence)}
            for (name, rows), means in zip(parts, resampled)
        ]
        found["gaps"] += _gap(by, parts, values[:, 0], [means[:, 0] for means in resampled], bootstrap.confidence)
    return found


def groupings(panel: Panel, tastes: Tastes) -> dict[str, Parts]:
    """Quarters by history length; segments when there are any, the largest and then the others; thirds by taste."""
    return {
        "history": _history(panel.history),
        "segment": _segments(panel.segments),
        "taste": _tastes(tastes),
    }


def _values(panel: Panel, tastes: Tastes, single: str, k: int) -> np.ndarray:
    """float64 [U, C]: `GROUP_METRICS` of the blend, of `single`, then profile, listed (both 0 where one of them is unknown) and whether known."""
    q, models = panel.cutoffs.index(k), [panel.models.index(name) for name in (FUSED, single)]
    columns = [METRICS.index(name) for name in GROUP_METRICS]
    accuracy = panel.values[:, q, models][:, :, columns].reshape(-1, 2 * len(columns))
    known = ~(np.isnan(tastes.profile) | np.isnan(tastes.listed))
    popularity = np.stack([np.where(known, x, 0.0) for x in (tastes.profile, tastes.listed)], axis=1)
    return np.hstack([accuracy, popularity, known[:, None]])


def _entry(values: np.ndarray, resampled: np.ndarray, confidence: float) -> dict[str, Any]:
    """What is said of one group, from its `values` [R, C] and their means `resampled` [S, C]."""
    n, means, bounds = len(GROUP_METRICS), values.mean(axis=0), percentiles(resampled, confidence)
    parts = [Estimate(*map(float, cell)).plain() for cell in zip(means[: 2 * n], *bounds[:, : 2 * n])]
    # the sums of both columns are over the same users, so that their ratio needs no count
    low, high = percentiles(lift(resampled[:, -3], resampled[:, -2]), confidence)
    profile, listed = (means[[-3, -2]] / means[-1]) if means[-1] else (np.nan, np.nan)
    lifted = Estimate(float(lift(profile, listed)), float(low), float(high))
    return {
        "metrics": dict(zip(GROUP_METRICS, parts[:n])),
        "best_single": dict(zip(GROUP_METRICS, parts[n:])),
        "popularity": {"profile": float(profile), "list": float(listed), "lift": lifted.plain()},
    }


def _gap(
    by: str, parts: Parts, ndcg: np.ndarray, resampled: list[np.ndarray], confidence: float
) -> list[dict[str, Any]]:
    """One entry, or none; `ndcg` float64 [U], `resampled` [S] for each group."""
    large = [at for at, (_, rows) in enumerate(parts) if len(rows) >= LEAST_USERS]
    if len(large) < 2:
        return []
    means = np.array([ndcg[parts[at][1]].mean() for at in large])
    best, worst, gap = widest_gap(means, np.stack([resampled[at] for at in large], axis=1), confidence)
    highest, lowest = parts[large[best]][0], parts[large[worst]][0]
    return [{"by": by, "best": highest, "worst": lowest, "groups": len(large), "ndcg": gap.plain()}]


def _history(history: np.ndarray) -> Parts:
    if not len(history):
        return []
    edges = np.unique(np.quantile(history, [0.25, 0.5, 0.75], method="lower"))
    return [
        (_range(f"{history[rows].min():,}", f"{history[rows].max():,}"), rows)
        for rows in _cut(history, edges)
        if len(rows)
    ]


def _segments(segments: np.ndarray) -> Parts:
    names, counts = np.unique([s for s in segments if s is not None], return_counts=True)
    largest = [str(names[i]) for i in np.lexsort((names, -counts))[:MOST_SEGMENTS]]
    found = [(name, np.flatnonzero(segments == name)) for name in largest]
    others = np.flatnonzero(~np.isin(segments.astype(str), largest))
    return [*found, ("others or unknown", others)] if found and len(others) else found


def _tastes(tastes: Tastes) -> Parts:
    """Niche, mixed and mainstream: thirds by the share of popular items in the history, among equals by its mean popularity.

    Abdollahpouri et al. (2019) cut at a fifth and at four fifths of the users; thirds are as many users each, so that none is known worse
    than the others. Users alike stay together, and where that leaves one group there is none.
    """
    known = np.flatnonzero(~np.isnan(tastes.popular))
    if not len(known):
        return []
    keys = np.stack([tastes.popular, tastes.profile], axis=1)[known]
    place = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    parts = _cut(place, np.quantile(place, [1 / 3, 2 / 3], method="lower"))
    found = []
    for name, own in zip(("niche", "mixed", "mainstream"), parts):
        if len(own):
            percent = 100 * tastes.popular[known[own]]
            found.append((f"{name} ({_range(f'{percent.min():.0f}', f'{percent.max():.0f}')}%)", known[own]))
    return found if len(found) > 1 else []


def _cut(values: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """Positions of the values up to each of the rising `edges` and above the one before it, then of those above the last; any may be empty."""
    group = np.searchsorted(edges, values, side="left")
    return [np.flatnonzero(group == g) for g in range(len(edges) + 1)]


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low}–{high}"
