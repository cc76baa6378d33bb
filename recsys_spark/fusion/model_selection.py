"""Choose the fusion on the validation set: the models, their weights, and whether a ranker orders the lists.

Every figure that decides is from two-fold cross-validation: the sample is split in halves by a hash of the user, and
each half is evaluated with weights and rankers fitted on the other. The selected fusion is then fitted on the whole
sample.

1. A ranker over all models is compared with the blend. It is selected if the bootstrap interval of the difference of
   NDCG lies above 0.
2. Models are dropped by backward elimination with the one-standard-error rule (Breiman, Friedman, Olshen and Stone,
   Classification and Regression Trees, 1984): of the fusions within one standard error of the best, the smallest wins.
   The selected ranker evaluates them, because a ranker may use a model that a weighted sum cannot.

Shapes:  M models · U informative users of the sample
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from recsys_spark.columns import DROPPED, FUSED, MODEL, POPULARITY
from recsys_spark.fusion import ranker
from recsys_spark.fusion.blend import ZSCORE, Blend, weighted_sum
from recsys_spark.fusion.blend_search import FULL, BlendObjective, Units, best_blend, fractions, single_model_ndcg
from recsys_spark.fusion.sample import Sample
from recsys_spark.metrics.bootstrap import Bootstrap, Estimate

log = logging.getLogger(__name__)

AUTO, BLEND, RANKER = "auto", "blend", "ranker"
"""Values of score.fusion. AUTO selects the better of the two."""
MIN_INFORMATIVE_USERS = 200
"""With fewer users who have a held-out item among their candidates, no model is dropped and no ranker is tried."""


@dataclass(frozen=True)
class CrossValidation:
    """The result of a fusion of `models`: the blend's weights by half, and NDCG by those of the other half."""

    models: tuple[str, ...]
    weights: tuple[Units, Units]
    ndcg: np.ndarray
    """float64 [U]."""


@dataclass(frozen=True)
class Elimination:
    """The result of backward elimination; estimates are over all users of the sample.

    `leave_one_out` has the NDCG of all models minus that without the model. `dropped` has, in the order of dropping,
    the best NDCG so far minus that without the model and those dropped before it.
    """

    kept: CrossValidation
    leave_one_out: dict[str, Estimate]
    dropped: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The mean cross-validated NDCG of the blend and of the ranker, and the paired difference ranker - blend."""

    blend: float
    ranker: float
    difference: Estimate


@dataclass(frozen=True)
class SelectedFusion:
    """The blend of `models`, and the text of the ranker if one is selected.

    `valid_ndcg` has the NDCG@k of each model alone and of the blend, on the sample that the blend was fitted on.
    `elimination` and `comparison` are None if there were too few users, or nothing to compare.
    """

    models: tuple[str, ...]
    blend: Blend
    ranker: str | None
    valid_ndcg: dict[str, float]
    cross_validated_ndcg: float | None = None
    """The NDCG@k of the selected fusion by cross-validation."""
    elimination: Elimination | None = None
    comparison: Comparison | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the content of fusion.json that this result decides."""
        steps = self.elimination
        return {
            "method": self.blend.method,
            "weights": dict(zip(self.models, self.blend.weights)),
            "selected": RANKER if self.ranker else BLEND,
            "valid_ndcg": self.valid_ndcg,
            "cross_validated_ndcg": self.cross_validated_ndcg,
            "leave_one_out": {name: asdict(e) for name, e in steps.leave_one_out.items()} if steps else {},
            DROPPED: [{MODEL: name, **asdict(e)} for name, e in steps.dropped.items()] if steps else [],
            "comparison": asdict(self.comparison) if self.comparison else None,
        }


def select_fusion(
    sample: Sample, *, k: int, length: int, fusion: str, drop: bool, bootstrap: Bootstrap
) -> SelectedFusion:
    """Return the fusion for lists of `length` with the best NDCG@k. `fusion` is AUTO, BLEND or RANKER.

    `drop` allows backward elimination. Without informative users all models get equal weights.
    """
    n_informative = len(sample.users)
    if not n_informative:
        return _equal_weights(sample)
    blend, ndcg = best_blend(sample, k)
    single = single_model_ndcg(sample, blend.method, k)
    use_ranker, comparison, elimination, cross_validated = fusion == RANKER, None, None, None
    if n_informative < MIN_INFORMATIVE_USERS:
        log.info("fusion: %d informative users are too few to drop a model or compare a ranker", n_informative)
    else:
        validator = CrossValidator(blend.method, k, length)
        full = validator.blend(sample)
        if fusion != BLEND:
            ranked = validator.rerank(sample, full)
            comparison = compare(sample, full, ranked, bootstrap)
            use_ranker = use_ranker or comparison.difference.low > 0
            full = ranked if use_ranker else full
        validator = replace(validator, use_ranker=use_ranker)
        elimination = eliminate(sample, full, validator, drop=drop, bootstrap=bootstrap)
        cross_validated = sample.mean(elimination.kept.ndcg)
        if elimination.dropped:
            sample = sample.only(elimination.kept.models)
            blend, ndcg = best_blend(sample, k)
    text = fit_ranker(sample, blend, length=length, k=k) if use_ranker else None
    valid_ndcg = {**single, FUSED: ndcg}
    return SelectedFusion(sample.models, blend, text, valid_ndcg, cross_validated, elimination, comparison)


def _equal_weights(sample: Sample) -> SelectedFusion:
    """Return a blend of all models with equal weights."""
    log.warning(
        "fusion: no held-out item of the %d sampled users is among the candidates. All models get equal weights",
        sample.n_users,
    )
    names = sample.models
    blend = Blend(ZSCORE, (1 / len(names),) * len(names))
    return SelectedFusion(names, blend, None, dict.fromkeys((*names, FUSED), 0.0))


@dataclass(frozen=True)
class CrossValidator:
    """Cross-validates fusions by NDCG@k: blends of scores normalised by `method`, or rankers for lists of `length`."""

    method: str
    k: int
    length: int
    use_ranker: bool = False

    def __call__(self, sample: Sample, starts: Sequence[Units] | None = None) -> CrossValidation:
        """Return the result for a fusion of the sample's models. `starts` are good weights of each half to begin at."""
        blend = self.blend(sample, starts)
        return self.rerank(sample, blend) if self.use_ranker else blend

    def blend(self, sample: Sample, starts: Sequence[Units] | None = None) -> CrossValidation:
        """Return the result of the blend."""
        objective, halves = BlendObjective(sample, sample.normalised(self.method), self.k), sample.halves
        weights = objective.best_of_each(halves, starts)
        ndcg = np.zeros(len(sample.users))
        for fitted, other in zip(weights, reversed(halves)):
            ndcg[other] = objective(fractions(fitted), other)
        return CrossValidation(sample.models, (weights[0], weights[1]), ndcg)

    def rerank(self, sample: Sample, blend: CrossValidation) -> CrossValidation:
        """Return the result of rankers over the blends of `blend`."""
        inputs, ndcg = sample.ranker_inputs(), np.zeros(len(sample.users))

        def half(number: int) -> None:
            fitted_on, other = sample.halves[number], sample.halves[1 - number]
            weights = tuple(fractions(blend.weights[number]))
            total = weighted_sum(weights, inputs.normalised[self.method], inputs.items)
            text = ranker.fit(inputs, total, sample.relevant, fitted_on, length=self.length, k=self.k)
            scores = ranker.rerank(ranker.from_text(text), inputs, total, self.length, other)
            ndcg[other] = BlendObjective(sample, scores[None], self.k)(np.ones(1), other)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(half, range(2)))
        return replace(blend, ndcg=ndcg)


def eliminate(
    sample: Sample, full: CrossValidation, validator: CrossValidator, *, drop: bool, bootstrap: Bootstrap
) -> Elimination:
    """Return the gain of each model in `full`, the result of all models, and drop models while `drop` allows it.

    Popularity is never dropped, because it serves users without history.
    """

    def without_each(fusion: CrossValidation) -> dict[str, CrossValidation]:
        with ThreadPoolExecutor(2) as pool:  # two at a time, because each copies the sample
            results = pool.map(lambda name: _without(sample, fusion, name, validator), fusion.models)
            return dict(zip(fusion.models, results))

    without = without_each(full)
    losses = np.stack([full.ndcg - result.ndcg for result in without.values()], axis=1)
    leave_one_out = dict(zip(without, _estimates(sample, losses, bootstrap)))
    kept, best, dropped = full, full.ndcg, {}
    while drop:
        # of equal models the later one in the configured order goes first: it takes longer to fit
        loss = {name: best - without[name].ndcg for name in reversed(without) if name != POPULARITY}
        mean = {name: sample.mean(loss[name]) for name in loss}
        small = [name for name in loss if mean[name] <= standard_error(sample.over_all_users(loss[name]))]
        if not small:
            break
        name = min(small, key=lambda n: mean[n])
        dropped[name] = _estimates(sample, loss[name][:, None], bootstrap)[0]
        log.info("fusion: %s is dropped. It adds %.5f to validation NDCG@%d", name, mean[name], validator.k)
        kept = without[name]
        best = max(best, kept.ndcg, key=sample.mean)
        without = without_each(kept)
    return Elimination(kept, leave_one_out, dropped)


def _without(sample: Sample, fusion: CrossValidation, name: str, validator: CrossValidator) -> CrossValidation:
    """Return the result of `fusion` fitted again without the model `name`; NDCG 0 if no model is left."""
    models = [other for other in fusion.models if other != name]
    if not models:
        return CrossValidation((), ((), ()), np.zeros(len(sample.users)))
    place = fusion.models.index(name)
    rest = [(*units[:place], *units[place + 1 :]) for units in fusion.weights]
    starts = [units if any(units) else (FULL // len(units),) * len(units) for units in rest]
    return validator(sample.only(models), starts)


def compare(sample: Sample, blend: CrossValidation, ranked: CrossValidation, bootstrap: Bootstrap) -> Comparison:
    """Return the comparison of a blend and of a ranker over it."""
    difference = _estimates(sample, (ranked.ndcg - blend.ndcg)[:, None], bootstrap)[0]
    log.info("fusion: the ranker changes the validation NDCG by %+.5f", difference.mean)
    return Comparison(sample.mean(blend.ndcg), sample.mean(ranked.ndcg), difference)


def fit_ranker(sample: Sample, blend: Blend, *, length: int, k: int) -> str:
    """Return the ranker for lists of `length` over `blend`, fitted on the whole sample, as text."""
    inputs, rows = sample.ranker_inputs(), np.arange(len(sample.users))
    total = weighted_sum(blend.weights, inputs.normalised[blend.method], inputs.items)
    return ranker.fit(inputs, total, sample.relevant, rows, length=length, k=k)


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of `values` float64 [users]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _estimates(sample: Sample, values: np.ndarray, bootstrap: Bootstrap) -> list[Estimate]:
    """Return estimates of the means of the columns of `values` float64 [U, columns] over all users of the sample."""
    every = sample.over_all_users(values)
    return bootstrap(every.mean(axis=0), every)[0]
