"""Confidence intervals of means over users by the paired bootstrap. Pure numpy.

Used where models are chosen on the validation set and where they are measured on the test set.

Shapes:  U users · C columns (a metric of a model, or the difference of two models) · S resamples · G groups of users
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

_CELLS = 4_000_000
"""Maximum number of cells (resamples x users) of one block of weights, 32 MB as float64."""


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
    """The settings of the intervals: number of resamples, confidence from 0 to 1, seed."""

    samples: int
    confidence: float
    seed: int

    def __call__(self, means: np.ndarray, values: np.ndarray) -> tuple[list[Estimate], np.ndarray]:
        """Return `estimates` with these settings."""
        return estimates(means, values, self.samples, self.confidence, self.seed)


def resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Return float64 [S, C]: the means of `values` float [U, C] over S resamples of the users, with replacement.

    All columns share the resamples, which makes a comparison of models paired (Efron & Tibshirani 1993; for ranked
    lists Sakai 2006). A resample is a vector of user multiplicities, so a block of resamples is one matrix product.
    """
    users = len(values)
    rng = np.random.default_rng(seed)
    size = max(1, _CELLS // users)
    means = [_weights(rng, min(size, samples - at), users) @ values / users for at in range(0, samples, size)]
    return np.concatenate(means)


def estimates(
    means: np.ndarray, values: np.ndarray, samples: int, confidence: float, seed: int
) -> tuple[list[Estimate], np.ndarray]:
    """Return C percentile intervals, and float [C]: the share of resamples whose mean is above 0.

    `means` float [C] are over all users, `values` float [U, C] over the users of the bootstrap. If these are only a
    sample of the users, the interval is centred on the mean over all and keeps the width of the sample. Without users
    everything is NaN.
    """
    if not len(values):
        nan = float("nan")
        return [Estimate(nan, nan, nan)] * len(means), np.full(len(means), nan)
    resampled = resampled_means(values, samples, seed)
    low, high = percentiles(resampled, confidence) + (means - values.mean(axis=0))
    above = np.mean(resampled > 0, axis=0)
    return [Estimate(float(m), float(a), float(b)) for m, a, b in zip(means, low, high)], above


def percentiles(resampled: np.ndarray, confidence: float) -> np.ndarray:
    """Return float64 [2, ...]: the bounds of the central `confidence` of `resampled` [S, ...]."""
    tail = (1 - confidence) / 2
    return np.quantile(resampled, [tail, 1 - tail], axis=0)


def widest_gap(means: np.ndarray, resampled: np.ndarray, confidence: float) -> tuple[int, int, Estimate]:
    """Return (highest, lowest, their difference) of G groups with different users.

    `means` is [G]; `resampled` is [S, G] with each group resampled by itself.

    The highest and the lowest group are chosen by the same data, so a plain interval of their difference is too narrow:
    even among equal groups one comes out highest. This interval holds for all pairs at once. Its half-width is a number
    of standard errors: the `confidence` quantile of the largest |difference - its mean| / standard error over all pairs
    (max-t, after Westfall & Young, Resampling-Based Multiple Testing, 1993). For normal means with equal errors this is
    Tukey's studentized range.
    """
    best, worst = int(np.argmax(means)), int(np.argmin(means))
    errors, deviations = resampled.std(axis=0), resampled - means
    left, right = np.triu_indices(len(means), 1)
    spread = np.hypot(errors[left], errors[right])
    # a group whose users all have the same value has no spread: avoid 0 / 0
    distances = np.abs(deviations[:, left] - deviations[:, right]) / np.where(spread > 0, spread, 1)
    reach = np.quantile(distances.max(axis=1), confidence) * np.hypot(errors[best], errors[worst])
    gap = float(means[best] - means[worst])
    return best, worst, Estimate(gap, gap - float(reach), gap + float(reach))


def _weights(rng: np.random.Generator, samples: int, users: int) -> np.ndarray:
    """Return float64 [samples, users]: the multiplicity of each user in each resample."""
    drawn = rng.integers(0, users, (samples, users), dtype=np.int32)
    return np.stack([np.bincount(row, minlength=users) for row in drawn]).astype(np.float64)
