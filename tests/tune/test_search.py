"""The search with a known objective: its result, pruning, failures and continuation."""

import math

import pytest
from optuna.distributions import FloatDistribution

from recsys_spark.errors import ContractViolation
from recsys_spark.tune.search import Search
from recsys_spark.tune.space import SearchSpace

SPACE = SearchSpace("hill", {"a.x": FloatDistribution(0, 1), "a.y": FloatDistribution(0.01, 1, log=True)})
START = {"a.x": 0.9, "a.y": 0.9}


class Stop(Exception):
    pass


def hill(values, report=None):
    """Highest, 1, at (0.3, 0.1)."""
    return 1 - (values["a.x"] - 0.3) ** 2 - 0.1 * math.log10(values["a.y"] / 0.1) ** 2


def search(path, *, seed=7, sampler="tpe", space=SPACE):
    return Search(path, space, sampler=sampler, seed=seed)


def run(path, until, objective=hill, start=START, **options):
    """Search until the study has `until` trials, pruned and failed ones included; return the result."""
    made = search(path, **options)

    def after(made):
        if len(made.study.trials) >= until:
            raise Stop

    with pytest.raises(Stop):
        made.run(start, objective, math.inf, after)
    return made.result()


def test_the_start_is_trial_0_and_the_best_is_never_worse(tmp_path):
    result = run(tmp_path / "study.db", 16)
    assert result.start.values == START and result.start.ndcg == hill(START)
    assert list(result.trials) == list(range(16))
    assert all(trial.ndcg == hill(trial.values) for trial in result.trials.values())
    assert result.best.ndcg == max(trial.ndcg for trial in result.trials.values()) > result.start.ndcg


@pytest.mark.parametrize("start", [{"a.x": 0.3, "a.y": 4.0}, {"a.x": 0.3, "a.y": None}])
def test_a_start_outside_the_space_is_evaluated_too(tmp_path, start):
    result = run(tmp_path / "study.db", 5, lambda values, report: 2.0 if values == start else 1.0, start)
    assert result.best == result.start == result.trials[0]
    assert len(result.trials) == 5 and result.failed == 0


def test_only_the_start_is_evaluated_after_the_deadline(tmp_path):
    made = search(tmp_path / "study.db")
    made.run(START, hill, deadline=0)
    assert list(made.result().trials) == [0]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_stopped_search_continues_with_the_same_trials(tmp_path, sampler):
    whole = run(tmp_path / "whole.db", 14, sampler=sampler)
    run(tmp_path / "parts.db", 4, sampler=sampler)

    def killed(values, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # in the middle of a trial
        search(tmp_path / "parts.db", sampler=sampler).run(START, killed, math.inf)
    parts = run(tmp_path / "parts.db", 14, sampler=sampler)
    assert [t.values for t in parts.trials.values()] == [t.values for t in whole.trials.values()]


def test_another_seed_tries_other_settings(tmp_path):
    one, other = (run(tmp_path / f"{seed}.db", 3, seed=seed) for seed in (1, 2))
    assert one.start == one.trials[0] and one.trials[1].values != other.trials[1].values
    assert one.trials[1].values != one.trials[2].values


def test_a_trial_below_the_median_is_pruned(tmp_path):
    """The pruner needs five trials before it prunes one, and never prunes at the first step."""
    steps = []

    def climb(values, report):
        for step in range(1, 5):
            steps.append((values["a.x"], step))
            report(step, hill(values) * step / 4)
        return hill(values)

    result = run(tmp_path / "study.db", 20, climb)
    assert result.pruned > 0 and len(result.trials) + result.pruned == 20
    reached = {x: max(step for at, step in steps if at == x) for x, _ in steps}
    assert set(reached.values()) - {4} and min(reached.values()) >= 2
    assert all(reached[trial.values["a.x"]] == 4 for trial in result.trials.values())


def test_settings_that_raise_a_known_error_count_as_failed(tmp_path):
    def fussy(values, report):
        if values["a.x"] < 0.5:
            raise ContractViolation("gives NaN scores")
        return hill(values)

    result = run(tmp_path / "study.db", 12, fussy)
    assert result.failed > 0 and len(result.trials) + result.failed == 12
    assert all(trial.values["a.x"] >= 0.5 for trial in result.trials.values())


@pytest.mark.parametrize("error", [ContractViolation("no"), ZeroDivisionError("no")])
def test_an_error_of_the_start_ends_the_search(tmp_path, error):
    def refuse(values, report):
        raise error

    made = search(tmp_path / "study.db")
    with pytest.raises(type(error)):
        made.run(START, refuse, math.inf)
    assert made.result() is None


def test_a_bug_ends_the_search(tmp_path):
    def broken(values, report):
        if values != START:
            raise ZeroDivisionError
        return 1.0

    with pytest.raises(ZeroDivisionError):
        search(tmp_path / "study.db").run(START, broken, math.inf)


def test_an_important_key_outranks_one_without_effect(tmp_path):
    few = search(tmp_path / "few.db")
    few.run(START, hill, deadline=0)
    assert few.importances() == {}
    run(tmp_path / "study.db", 40, lambda values, report: -abs(values["a.x"] - 0.3), sampler="random")
    importances = search(tmp_path / "study.db").importances()
    assert sum(importances.values()) == pytest.approx(1)
    assert importances["a.x"] > 2 * importances["a.y"]
