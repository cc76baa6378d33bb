"""The search for one model's settings: asks Optuna what to try, has it judged, and remembers all of it in a SQLite file.

What is suggested for trial n depends on the seed, on n and on the trials before it, and on nothing else: a search that was stopped, even in the
middle of a trial, goes on to the same trials as one that was not. The settings that it starts from are judged before anything is suggested, so that
the best that was found is never worse than they are.
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

from recsys_spark.pipeline.job import known_error
from recsys_spark.tune.space import Group

log = logging.getLogger(__name__)

SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": TPESampler, "random": RandomSampler}
"""tpe: Bayesian, by a tree-structured Parzen estimator (Bergstra et al. 2011), after ten random trials."""

Report = Callable[[int, float], None]
"""Takes (step, NDCG) of a trial that is under way; raises `optuna.TrialPruned` when it is below the median of earlier ones at that step."""
Objective = Callable[[dict[str, Any], Report], float]
"""The NDCG of settings by dotted key."""

_VALUES, _NDCG, _SECONDS = "values", "ndcg", "seconds"
"""What a trial keeps beside Optuna's own; the NDCG only if it was judged to the end."""


@dataclass(frozen=True)
class Tried:
    """Settings by dotted key, the NDCG they reached, and how long it took to know [s]."""

    values: dict[str, Any]
    ndcg: float
    seconds: float


@dataclass(frozen=True)
class Found:
    """A search so far. `tried` are the trials that were judged to the end, by number, the start as number 0; `pruned` and `failed` count the others."""

    group: Group
    tried: dict[int, Tried]
    pruned: int
    failed: int
    seconds: float

    @property
    def start(self) -> Tried:
        return self.tried[0]

    @property
    def best(self) -> Tried:
        """The first of the best."""
        return max(self.tried.values(), key=lambda tried: tried.ndcg)


class Search:
    """The trials of one group in the SQLite file `path`, which other groups may share; goes on with those that are there."""

    def __init__(self, path: Path, group: Group, *, sampler: str, seed: int):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.group, self.sampler, self.seed = group, SAMPLERS[sampler], seed
        self.study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=group.model,
            direction="maximize",
            # the first epoch says little: rates are still rising
            pruner=MedianPruner(n_warmup_steps=2),
            load_if_exists=True,
        )

    def run(
        self,
        start: Mapping[str, Any],
        objective: Objective,
        deadline: float,
        after: Callable[[Search], None] = lambda _: None,
    ) -> None:
        """Judge `start` if it was not, then what is suggested, until the next trial would likely end after `deadline` (time.monotonic) [s].

        `after` is called after each of them. Settings that cannot be judged (an error of the house's family) are noted as failed; when it
        is the start, the error is raised.
        """
        if not self._trials():
            self._judge_start(dict(start), objective)
            after(self)
        while time.monotonic() + self._usual_seconds() <= deadline:
            self._judge(self._next(), objective, deadline)
            after(self)

    def found(self) -> Found | None:
        """What the search has come to; None before the start is judged."""
        trials = self._trials()
        if not trials:
            return None
        return Found(
            self.group,
            {t.number: Tried(**_attributes(t)) for t in trials if _NDCG in t.user_attrs},
            sum(t.state == TrialState.PRUNED for t in trials),
            sum(t.state == TrialState.FAIL and _NDCG not in t.user_attrs for t in trials),
            sum(t.user_attrs.get(_SECONDS, 0) for t in trials),
        )

    def importances(self) -> dict[str, float]:
        """Share of each key in what tells the best quarter of the trials from the whole space, the most important first (PED-ANOVA, Watanabe et al. 2023);
        empty with fewer than eight trials."""
        if sum(t.state == TrialState.COMPLETE for t in self._trials()) < 8:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
        return optuna.importance.get_param_importances(self.study, evaluator=evaluator)

    def _judge_start(self, values: dict[str, Any], objective: Objective) -> None:
        steps: dict[int, float] = {}
        clock = time.monotonic()
        ndcg = objective(values, steps.__setitem__)
        tried = Tried(values, ndcg, time.monotonic() - clock)
        # where the space does not hold it, it must not look like a trial to the sampler
        told = (
            {
                "value": ndcg,
                "params": values,
                "distributions": dict(self.group.keys),
                "intermediate_values": steps,
            }
            if self.group.holds(values)
            else {"state": TrialState.FAIL}
        )
        self.study.add_trial(create_trial(**told, user_attrs=asdict(tried)))
        log.info("%s, as it is: %s; NDCG %.4f, %.1f s", self.group.model, _told(values), ndcg, tried.seconds)

    def _next(self) -> optuna.Trial:
        """The trial that was under way when the search was stopped, or a new one."""
        for trial in self._trials(TrialState.RUNNING):
            if trial.params.keys() == self.group.keys.keys():
                return optuna.Trial(self.study, trial._trial_id)
            self.study.tell(trial.number, state=TrialState.FAIL)  # stopped while it was made
        number = len(self._trials())
        seed = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        self.study.sampler = self.sampler(seed=seed)
        return self.study.ask(dict(self.group.keys))

    def _judge(self, trial: optuna.Trial, objective: Objective, deadline: float) -> None:
        values = self.group.values(trial.params)
        trial.set_user_attr(_VALUES, values)
        ndcg, state, clock = None, TrialState.COMPLETE, time.monotonic()
        try:
            ndcg = objective(values, partial(_report, trial))
            said = f"NDCG {ndcg:.4f}"
        except optuna.TrialPruned as pruned:
            state, said = TrialState.PRUNED, f"stopped, {pruned}"
        except Exception as error:
            known = known_error(error)
            if known is None:
                raise
            state, said = TrialState.FAIL, f"failed: {' '.join(str(known).split())}"
        seconds = time.monotonic() - clock
        trial.set_user_attr(_SECONDS, seconds)
        if ndcg is not None:
            trial.set_user_attr(_NDCG, ndcg)
        self.study.tell(trial, ndcg, state)
        found = self.found()
        assert found is not None
        log.info(
            "%s %d: %s; %s, best %.4f, %.1f s, %.1f min left",
            self.group.model,
            trial.number,
            _told(values),
            said,
            found.best.ndcg,
            seconds,
            max(deadline - time.monotonic(), 0) / 60,
        )

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _usual_seconds(self) -> float:
        found = self.found()
        assert found is not None
        return statistics.median(tried.seconds for tried in found.tried.values())


def _report(trial: optuna.Trial, step: int, ndcg: float) -> None:
    if step not in trial.storage.get_trial(trial._trial_id).intermediate_values:
        trial.report(ndcg, step)
    if trial.should_prune():
        raise optuna.TrialPruned(f"NDCG {ndcg:.4f} at step {step} is below the median")


def _attributes(trial: FrozenTrial) -> dict[str, Any]:
    return {name: trial.user_attrs[name] for name in (_VALUES, _NDCG, _SECONDS)}


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in values.items())
