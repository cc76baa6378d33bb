"""How sure a mean over users is: the paired bootstrap. Pure numpy. Both who chooses on valid and who measures on test ask it.

Shapes:  U users · C columns (a metric of a model, or the difference of two models) · S resamples
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

_CELLS = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A mean over users and the bounds of its interval."""

    mean: float
    low: float
    high: float

    def plain(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: resamples, confidence (share), seed."""

    samples: int
    confidence: float
    seed: int

    def __call__(self, means: np.ndarray, values: np.ndarray) -> tuple[list[Estimate], np.ndarray]:
        return estimates(means, values, self.samples, self.confidence, self.seed)


def resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """float64 [S, C]: means of `values` float [U, C] over S resamples of the users, drawn with replacement.

    All columns share the same resamples, which is what makes a comparison of models paired (Efron & Tibshirani 1993; for ranked lists
    Sakai 2006). A resample is its users' multiplicities, so all of them are one matrix product, cut so that it fits in memory.
    """
    users = len(values)
    rng = np.random.default_rng(seed)
    size = max(1, _CELLS // users)
    means = [_weights(rng, min(size, samples - at), users) @ values / users for at in range(0, samples, size)]
    return np.concatenate(means)


def estimates(
    means: np.ndarray, values: np.ndarray, samples: int, confidence: float, seed: int
) -> tuple[list[Estimate], np.ndarray]:
    """Percentile intervals of the C columns, and float [C]: the share of resamples whose mean is above 0.

    `means` float [C] are over all users, `values` float [U, C] over those the bootstrap works on. Where those are only some, the interval is
    moved to lie about the mean of all, and keeps the width of the smaller sample. Without users everything is NaN.
    """
    if not len(values):
        nothing = float("nan")
        return [Estimate(nothing, nothing, nothing)] * len(means), np.full(len(means), nothing)
    resampled = resampled_means(values, samples, seed)
    low, high = percentiles(resampled, confidence) + (means - values.mean(axis=0))
    above = np.mean(resampled > 0, axis=0)
    return [Estimate(float(m), float(a), float(b)) for m, a, b in zip(means, low, high)], above


def percentiles(resampled: np.ndarray, confidence: float) -> np.ndarray:
    """float64 [2, ...]: the bounds of the middle `confidence` of `resampled` [S, ...]."""
    tail = (1 - confidence) / 2
    return np.quantile(resampled, [tail, 1 - tail], axis=0)


def widest_gap(means: np.ndarray, resampled: np.ndarray, confidence: float) -> tuple[int, int, Estimate]:
    """(highest, lowest, their difference) of G groups of different users, from their `means` [G] and their means in S resamples, [S, G],
    each group resampled by itself.

    Which two they are was seen in the same users, so the plain interval of a difference would be too narrow: of groups that are all alike,
    the highest is above the lowest. This one holds for all pairs at once, and so for the two that were chosen: as many standard errors to
    either side as the largest of all pairs' |difference - its mean| / standard error reaches in `confidence` of the resamples (max-t, after
    Westfall & Young, Resampling-Based Multiple Testing, 1993; for normal means of equal errors it is Tukey's studentized range).
    """
    best, worst = int(np.argmax(means)), int(np.argmin(means))
    errors, off = resampled.std(axis=0), resampled - means
    left, right = np.triu_indices(len(means), 1)
    spread = np.hypot(errors[left], errors[right])
    # groups of which every user has the same value do not vary, and then 0 / 0 is no distance
    distances = np.abs(off[:, left] - off[:, right]) / np.where(spread > 0, spread, 1)
    reach = np.quantile(distances.max(axis=1), confidence) * np.hypot(errors[best], errors[worst])
    gap = float(means[best] - means[worst])
    return best, worst, Estimate(gap, gap - float(reach), gap + float(reach))


def _weights(rng: np.random.Generator, samples: int, users: int) -> np.ndarray:
    """float64 [samples, users]: how often each user stands in each resample."""
    drawn = rng.integers(0, users, (samples, users), dtype=np.int32)
    return np.stack([np.bincount(row, minlength=users) for row in drawn]).astype(np.float64)
