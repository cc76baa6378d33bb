"""What ships: which models take part in the blend, and whether a learned ranker orders its lists. Judged on the valid sample.

Whatever is judged was learned on other users: the sample is parted in halves by a hash of the user, and each half is judged with what was
learned on the other. What ships is then learned on all of it.

Dropping is backward elimination with the one-standard-error rule (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984):
of the blends within one standard error of the best the one of the fewest models. A ranker ships only where it is better beyond the interval.

Shapes:  M models · U users of the sample
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys_spark.bootstrap import Bootstrap, Estimate
from recsys_spark.columns import POPULARITY
from recsys_spark.score import ranker
from recsys_spark.score.fusion import Blend, weighted_sum
from recsys_spark.score.learning import WHOLE, Objective, Units, shared
from recsys_spark.score.sample import Sample

log = logging.getLogger(__name__)

FEWEST = 200
"""With fewer users in the sample who have a held-out item among their candidates, nothing is dropped and no ranker is tried."""


@dataclass(frozen=True)
class Crossed:
    """A blend of `models`, judged: ndcg float64 [U] of each user with the weights learned on the half that the user is not in."""

    models: tuple[str, ...]
    weights: tuple[Units, Units]
    """Learned on each half."""
    ndcg: np.ndarray


@dataclass(frozen=True)
class Selection:
    """`kept` of all models; `adds`: NDCG of all models less that without each; `dropped`: in the order in which they went, the NDCG of the best blend
    met until then less that without the model and those before it. Estimates of means over the sample's users."""

    kept: Crossed
    adds: dict[str, Estimate]
    dropped: dict[str, Estimate] = field(default_factory=dict)


def crossed(sample: Sample, method: str, k: int, near: Sequence[Units] | None = None) -> Crossed:
    """`near`: weights that are believed to be good, of each half, from which the search then starts."""
    objective, halves = Objective(sample, sample.shares(method), k), sample.halves
    found = objective.best_of_each(halves, near)
    ndcg = np.zeros(len(sample.users))
    for weights, other in zip(found, reversed(halves)):
        ndcg[other] = objective(shared(weights), other)
    return Crossed(sample.models, (found[0], found[1]), ndcg)


def select(sample: Sample, method: str, k: int, *, drop: bool, bootstrap: Bootstrap) -> Selection:
    """What each model adds, and with `drop` the models that the blend is as good without. Popularity stays: it serves users without history."""
    everyone = crossed(sample, method, k)
    without = {name: _without(sample, everyone, name, method, k) for name in sample.models}
    gaps = np.stack([everyone.ndcg - other.ndcg for other in without.values()], axis=1)
    adds = dict(zip(without, _estimates(gaps, bootstrap)))
    kept, best, dropped = everyone, everyone.ndcg, {}
    while drop:
        # the last named of equals goes first: the later models are the dearer ones
        losses = {name: best - without[name].ndcg for name in reversed(without) if name != POPULARITY}
        small = {name: loss.mean() for name, loss in losses.items() if loss.mean() <= standard_error(loss)}
        if not small:
            break
        name = min(small, key=lambda n: small[n])
        dropped[name] = _estimates(losses[name][:, None], bootstrap)[0]
        log.info("fusion: %s is dropped, it adds %.5f to valid NDCG@%d", name, small[name], k)
        kept = without[name]
        best = max(best, kept.ndcg, key=lambda ndcg: ndcg.mean())
        without = {other: _without(sample, kept, other, method, k) for other in kept.models}
    return Selection(kept, adds, dropped)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of float64 [U]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _without(sample: Sample, blend: Crossed, name: str, method: str, k: int) -> Crossed:
    """The blend without a model, weights learned anew; without its only model, nothing."""
    models = [other for other in blend.models if other != name]
    if not models:
        return Crossed((), ((), ()), np.zeros(len(sample.users)))
    gone = blend.models.index(name)
    rest = [(*units[:gone], *units[gone + 1 :]) for units in blend.weights]
    near = [units if any(units) else (WHOLE // len(units),) * len(units) for units in rest]
    return crossed(sample.only(models), method, k, near)


@dataclass(frozen=True)
class Contest:
    """Mean NDCG of the blend and of the ranker over the users who judged them, each by what was not learned on them, and the paired difference."""

    blend: float
    ranker: float
    difference: Estimate


def contest(
    sample: Sample, method: str, blend: Crossed, *, length: int, k: int, bootstrap: Bootstrap
) -> Contest:
    """The ranker of lists of `length` against the blend. `sample` is of the blend's models. A ranker that is no better on the first half of the
    users who judge is not learned a second time for the other."""
    ndcg, halves, told = np.zeros(len(sample.users)), sample.halves, tell(sample)
    judges = np.zeros(len(ndcg), bool)
    for weights, own, other in zip(blend.weights, halves, reversed(halves)):
        total = weighted_sum(shared(weights), told.shares[method])
        text = ranker.fit(told, total, sample.relevant, own, length=length, k=k)
        scores = ranker.rerank(ranker.of_text(text), told, total, length)
        ndcg[other] = Objective(sample, scores[None], k)(np.ones(1), other)
        judges[other] = True
        if ndcg[judges].sum() <= blend.ndcg[judges].sum():
            break
    ours, theirs = ndcg[judges], blend.ndcg[judges]
    difference = _estimates((ours - theirs)[:, None], bootstrap)[0]
    log.info("fusion: the ranker differs from the blend by %+.5f of valid NDCG@%d", difference.mean, k)
    return Contest(float(theirs.mean()), float(ours.mean()), difference)


def fit_ranker(sample: Sample, blend: Blend, *, length: int, k: int) -> str:
    """The ranker that ships, learned on the whole sample, as text."""
    told, everyone = tell(sample), np.arange(len(sample.users))
    total = weighted_sum(np.asarray(blend.weights), told.shares[blend.method])
    return ranker.fit(told, total, sample.relevant, everyone, length=length, k=k)


def tell(sample: Sample) -> ranker.Told:
    """The sample as a ranker sees it."""
    return ranker.Told.of(sample.models, sample.rows, sample.scores, sample.history, sample.depth)


def _estimates(values: np.ndarray, bootstrap: Bootstrap) -> list[Estimate]:
    """Of the columns of float64 [U, C]."""
    return bootstrap(values.mean(axis=0), values)[0]
