"""Searches settings of one model: asks Optuna for settings, has them evaluated, and stores every trial in SQLite.

The settings of trial n depend only on the seed, on n and on the trials before it. So a search that is stopped, even in
the middle of a trial, continues with the same trials as an uninterrupted one. The settings of the overlay are evaluated
first, so the best settings are never worse than those.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from recsys_spark.pipeline.exit_codes import known_error
from recsys_spark.tune.space import SearchSpace

log = logging.getLogger(__name__)

SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}
"""tpe: Bayesian optimization by a tree-structured Parzen estimator (Bergstra et al. 2011) after ten random trials."""
MIN_TRIALS_FOR_IMPORTANCE = 8

Report = Callable[[int, float], None]
"""Takes (step, NDCG) of a trial. Raises `optuna.TrialPruned` below the median of earlier trials at that step."""
TrialObjective = Callable[[dict[str, Any], Report], float]
"""Returns the NDCG of settings by dotted key."""

_VALUES, _NDCG, _SECONDS = "values", "ndcg", "seconds"
"""User attributes of an Optuna trial: the fields of TrialResult. Only a trial that ended has an NDCG."""


@dataclass(frozen=True)
class TrialResult:
    """Settings by dotted key, their NDCG, and the seconds that the trial took."""

    values: dict[str, Any]
    ndcg: float
    seconds: float


@dataclass(frozen=True)
class SearchResult:
    """The state of a search.

    `trials` are the trials that were evaluated to the end, by number; number 0 is the start. `pruned` and `failed`
    count the others.
    """

    space: SearchSpace
    trials: dict[int, TrialResult]
    pruned: int
    failed: int
    seconds: float

    @property
    def start(self) -> TrialResult:
        return self.trials[0]

    @property
    def best(self) -> TrialResult:
        """The trial with the highest NDCG, the first of several."""
        return max(self.trials.values(), key=lambda trial: trial.ndcg)


class Search:
    """The trials of one search space in the SQLite file `path`, which several searches may share."""

    def __init__(self, path: Path, space: SearchSpace, *, sampler: str, seed: int):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.sampler, self.seed = space, SAMPLERS[sampler], seed
        self.study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=space.model,
            direction="maximize",
            # the first epoch says little, because the NDCG still rises steeply
            pruner=MedianPruner(n_warmup_steps=2),
            load_if_exists=True,
        )

    def run(
        self,
        start: Mapping[str, Any],
        objective: TrialObjective,
        deadline: float,
        after: Callable[[Search], None] = lambda _: None,
    ) -> None:
        """Evaluate `start` first, then suggested settings, while a trial of median duration ends before `deadline`.

        `deadline` is a time of time.monotonic(). `after` is called after each trial. A trial that raises an error of
        this package counts as failed; an error of the start is raised.
        """
        if not self._trials():
            self._run_start(dict(start), objective)
            after(self)
        while time.monotonic() + self._median_seconds() <= deadline:
            self._run_trial(self._next(), objective, deadline)
            after(self)

    def result(self) -> SearchResult | None:
        """Return the state of the search, or None before the start is evaluated."""
        trials = self._trials()
        if not trials:
            return None
        return SearchResult(
            self.space,
            {t.number: _trial_result(t) for t in trials if _NDCG in t.user_attrs},
            sum(t.state == TrialState.PRUNED for t in trials),
            sum(t.state == TrialState.FAIL and _NDCG not in t.user_attrs for t in trials),
            sum(t.user_attrs.get(_SECONDS, 0) for t in trials),
        )

    def importances(self) -> dict[str, float]:
        """Return the importance of each key, descending, or nothing with too few trials.

        The importance is the key's share in what separates the best quarter of the trials from the whole space
        (PED-ANOVA, Watanabe et al. 2023).
        """
        if len(self._trials(TrialState.COMPLETE)) < MIN_TRIALS_FOR_IMPORTANCE:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
        return optuna.importance.get_param_importances(self.study, evaluator=evaluator)

    def _run_start(self, values: dict[str, Any], objective: TrialObjective) -> None:
        steps: dict[int, float] = {}
        clock = time.monotonic()
        ndcg = objective(values, steps.__setitem__)
        trial = TrialResult(values, ndcg, time.monotonic() - clock)
        if self.space.contains(values):
            optuna_trial = create_trial(
                value=ndcg,
                params=values,
                distributions=dict(self.space.keys),
                intermediate_values=steps,
                user_attrs=asdict(trial),
            )
        else:  # the sampler must not learn from settings outside the space
            optuna_trial = create_trial(state=TrialState.FAIL, user_attrs=asdict(trial))
        self.study.add_trial(optuna_trial)
        log.info("%s start: %s; NDCG %.4f, %.1f s", self.space.model, _short(values), ndcg, trial.seconds)

    def _next(self) -> optuna.Trial:
        """Return the trial that was running when the search was stopped, or a new one."""
        for trial in self._trials(TrialState.RUNNING):
            if trial.params.keys() == self.space.keys.keys():
                return optuna.Trial(self.study, trial._trial_id)
            self.study.tell(trial.number, state=TrialState.FAIL)  # stopped before it had all values
        number = len(self._trials())
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        self.study.sampler = self.sampler(seed=seed)
        return self.study.ask(dict(self.space.keys))

    def _run_trial(self, trial: optuna.Trial, objective: TrialObjective, deadline: float) -> None:
        values = self.space.values(trial.params)
        trial.set_user_attr(_VALUES, values)
        ndcg, state, clock = None, TrialState.COMPLETE, time.monotonic()
        try:
            ndcg = objective(values, partial(_report, trial))
            outcome = f"NDCG {ndcg:.4f}"
        except optuna.TrialPruned as pruned:
            state, outcome = TrialState.PRUNED, f"stopped early, {pruned}"
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            state, outcome = TrialState.FAIL, f"failed: {' '.join(str(known).split())}"
        seconds = time.monotonic() - clock
        trial.set_user_attr(_SECONDS, seconds)
        if ndcg is not None:
            trial.set_user_attr(_NDCG, ndcg)
        self.study.tell(trial, ndcg, state)
        log.info(
            "%s %d: %s; %s, best %.4f, %.1f s, %.1f min left",
            self.space.model,
            trial.number,
            _short(values),
            outcome,
            self._result().best.ndcg,
            seconds,
            max(deadline - time.monotonic(), 0) / 60,
        )

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _result(self) -> SearchResult:
        result = self.result()
        assert result is not None
        return result

    def _median_seconds(self) -> float:
        return statistics.median(trial.seconds for trial in self._result().trials.values())


def _report(trial: optuna.Trial, step: int, ndcg: float) -> None:
    if step not in trial.storage.get_trial(trial._trial_id).intermediate_values:
        trial.report(ndcg, step)
    if trial.should_prune():
        raise optuna.TrialPruned(f"NDCG {ndcg:.4f} at step {step} is below the median")


def _trial_result(trial: FrozenTrial) -> TrialResult:
    return TrialResult(**{name: trial.user_attrs[name] for name in (_VALUES, _NDCG, _SECONDS)})


def _short(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in values.items())
