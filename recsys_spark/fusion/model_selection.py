"""What ships: which models take part in the blend, and whether a learned ranker orders its lists. Judged on the valid sample.

Whatever is judged was learned on other users: the sample is parted in halves by a hash of the user, and each half is judged with what was
learned on the other. What ships is then learned on all of it.

A ranker of all models is tried. It ships only where it is better than the blend beyond the interval, and is then what judges the models:
one that a weighted sum has no use for may tell a ranker much. Otherwise the blend judges them, which it does meanwhile.

Dropping is backward elimination with the one-standard-error rule (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984):
of the fusions within one standard error of the best the one of the fewest models.

Shapes:  M models · U users of the sample
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from recsys_spark.columns import POPULARITY
from recsys_spark.fusion import ranker
from recsys_spark.fusion.blend import METHODS, Blend, weighted_sum
from recsys_spark.fusion.blend_search import WHOLE, Objective, Units, shared
from recsys_spark.fusion.sample import Sample
from recsys_spark.metrics.bootstrap import Bootstrap, Estimate

log = logging.getLogger(__name__)

FEWEST = 200
"""With fewer users in the sample who have a held-out item among their candidates, nothing is dropped and no ranker is tried."""


@dataclass(frozen=True)
class Crossed:
    """A fusion of `models`, judged: ndcg float64 [U] of each user by what was learned on the half that the user is not in."""

    models: tuple[str, ...]
    weights: tuple[Units, Units]
    """Of the blend, learned on each half."""
    ndcg: np.ndarray


@dataclass(frozen=True)
class Selection:
    """`kept` of all models; `adds`: NDCG of all models less that without each; `dropped`: in the order in which they went, the NDCG of the best fusion
    met until then less that without the model and those before it. Estimates of means over the sample's users."""

    kept: Crossed
    adds: dict[str, Estimate]
    dropped: dict[str, Estimate] = field(default_factory=dict)


Judge = Callable[[Sample, Crossed], Crossed]
"""From a sample of some models and their blend, judged, to what these models are judged by."""


def crossed(sample: Sample, method: str, k: int, near: Sequence[Units] | None = None) -> Crossed:
    """The blend. `near`: weights that are believed to be good, of each half, from which the search then starts."""
    objective, halves = Objective(sample, sample.shares(method), k), sample.halves
    found = objective.best_of_each(halves, near)
    ndcg = np.zeros(len(sample.users))
    for weights, other in zip(found, reversed(halves)):
        ndcg[other] = objective(shared(weights), other)
    return Crossed(sample.models, (found[0], found[1]), ndcg)


def by_blend(_: Sample, blend: Crossed) -> Crossed:
    """The blend itself is what counts."""
    return blend


def by_ranker(method: str, k: int, length: int) -> Judge:
    """Rankers of lists of `length` over the blends are what counts."""

    def judge(sample: Sample, blend: Crossed) -> Crossed:
        half = _halves_ranked(sample, method, blend, k, length)
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(half, range(2)))
        ndcg = np.zeros(len(sample.users))
        for judged, values in found:
            ndcg[judged] = values
        return replace(blend, ndcg=ndcg)

    return judge


def _halves_ranked(
    sample: Sample, method: str, blend: Crossed, k: int, length: int
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """(users, their NDCG) by the ranker that was learned on half 0 or 1, and not on them."""
    halves, told = sample.halves, tell(sample)

    def half(number: int) -> tuple[np.ndarray, np.ndarray]:
        own, other = halves[number], halves[1 - number]
        total = weighted_sum(shared(blend.weights[number]), told.shares[method])
        text = ranker.fit(told, total, sample.relevant, own, length=length, k=k)
        scores = ranker.rerank(ranker.of_text(text), told, total, length, other)
        return other, Objective(sample, scores[None], k)(np.ones(1), other)

    return half


def select(
    sample: Sample,
    method: str,
    k: int,
    *,
    everyone: Crossed,
    judge: Judge,
    drop: bool,
    bootstrap: Bootstrap,
) -> Selection:
    """What each model adds, and with `drop` the models that the fusion is as good without. Popularity stays: it serves users without history.
    `everyone` are all models, judged by `judge`."""

    def without_each(fusion: Crossed) -> dict[str, Crossed]:
        with ThreadPoolExecutor(2) as pool:  # each has a copy of the sample
            found = pool.map(lambda name: _without(sample, fusion, name, method, k, judge), fusion.models)
            return dict(zip(fusion.models, found))

    without = without_each(everyone)
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
        kept = without[name]
        best = max(best, kept.ndcg, key=lambda ndcg: ndcg.mean())
        without = without_each(kept)
    return Selection(kept, adds, dropped)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of float64 [U]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _without(sample: Sample, fusion: Crossed, name: str, method: str, k: int, judge: Judge) -> Crossed:
    """The fusion without a model, learned anew; without its only model, nothing."""
    models = [other for other in fusion.models if other != name]
    if not models:
        return Crossed((), ((), ()), np.zeros(len(sample.users)))
    gone = fusion.models.index(name)
    rest = [(*units[:gone], *units[gone + 1 :]) for units in fusion.weights]
    near = [units if any(units) else (WHOLE // len(units),) * len(units) for units in rest]
    some = sample.only(models)
    return judge(some, crossed(some, method, k, near))


@dataclass(frozen=True)
class Contest:
    """Mean NDCG of the blend and of the ranker over the users who judged them, each by what was not learned on them, and the paired difference."""

    blend: float
    ranker: float
    difference: Estimate


def contest(
    sample: Sample, method: str, blend: Crossed, *, length: int, k: int, bootstrap: Bootstrap
) -> tuple[Contest, Crossed | None]:
    """The ranker of lists of `length` against the blend, and the ranker judged. `sample` is of the blend's models. A ranker that is no better on the
    first half of the users who judge is not learned a second time for the other, and is then None."""
    ndcg, judges = np.zeros(len(sample.users)), np.zeros(len(sample.users), bool)
    half = _halves_ranked(sample, method, blend, k, length)
    for number in range(2):
        users, values = half(number)
        ndcg[users], judges[users] = values, True
        if ndcg[judges].sum() <= blend.ndcg[judges].sum():
            break
    ours, theirs = ndcg[judges], blend.ndcg[judges]
    difference = _estimates((ours - theirs)[:, None], bootstrap)[0]
    log.info("fusion: the ranker differs from the blend by %+.5f of valid NDCG@%d", difference.mean, k)
    found = Contest(float(theirs.mean()), float(ours.mean()), difference)
    return found, replace(blend, ndcg=ndcg) if judges.all() else None


def fit_ranker(sample: Sample, blend: Blend, *, length: int, k: int) -> str:
    """The ranker that ships, learned on the whole sample, as text."""
    told, everyone = tell(sample), np.arange(len(sample.users))
    total = weighted_sum(np.asarray(blend.weights), told.shares[blend.method])
    return ranker.fit(told, total, sample.relevant, everyone, length=length, k=k)


def tell(sample: Sample) -> ranker.Told:
    """The sample as a ranker sees it."""
    given = {method: sample.shares(method) for method in METHODS}
    return ranker.Told(sample.models, sample.rows, sample.items, given, sample.traits, sample.depth)


def _estimates(values: np.ndarray, bootstrap: Bootstrap) -> list[Estimate]:
    """Of the columns of float64 [U, C]."""
    return bootstrap(values.mean(axis=0), values)[0]
