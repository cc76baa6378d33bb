"""The search with an objective that is known: what it finds, what it stops, and how it goes on."""

import math

import pytest
from optuna.distributions import FloatDistribution

from recsys_spark.errors import ContractViolation
from recsys_spark.tune.search import Search
from recsys_spark.tune.space import Group

GROUP = Group("hill", {"a.x": FloatDistribution(0, 1), "a.y": FloatDistribution(0.01, 1, log=True)})
START = {"a.x": 0.9, "a.y": 0.9}


class Stop(Exception):
    pass


def hill(values, report=None):
    """Highest, 1, at (0.3, 0.1)."""
    return 1 - (values["a.x"] - 0.3) ** 2 - 0.1 * math.log10(values["a.y"] / 0.1) ** 2


def search(path, *, seed=7, sampler="tpe", group=GROUP):
    return Search(path, group, sampler=sampler, seed=seed)


def run(path, until, objective=hill, start=START, **options):
    """Search until there are so many trials in all, the start and those stopped or failed counted; returns what was found."""
    made = search(path, **options)

    def after(made):
        if len(made.study.trials) >= until:
            raise Stop

    with pytest.raises(Stop):
        made.run(start, objective, math.inf, after)
    return made.found()


def test_the_start_is_trial_0_and_the_best_is_never_worse(tmp_path):
    found = run(tmp_path / "study.db", 16)
    assert found.start.values == START and found.start.ndcg == hill(START)
    assert list(found.tried) == list(range(16))
    assert all(tried.ndcg == hill(tried.values) for tried in found.tried.values())
    assert found.best.ndcg == max(tried.ndcg for tried in found.tried.values()) > found.start.ndcg


@pytest.mark.parametrize("start", [{"a.x": 0.3, "a.y": 4.0}, {"a.x": 0.3, "a.y": None}])
def test_a_start_outside_the_space_counts_all_the_same(tmp_path, start):
    found = run(tmp_path / "study.db", 5, lambda values, report: 2.0 if values == start else 1.0, start)
    assert found.best == found.start == found.tried[0]
    assert len(found.tried) == 5 and found.failed == 0


def test_nothing_is_tried_after_the_deadline_but_the_start(tmp_path):
    made = search(tmp_path / "study.db")
    made.run(START, hill, deadline=0)
    assert list(made.found().tried) == [0]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    whole = run(tmp_path / "whole.db", 14, sampler=sampler)
    run(tmp_path / "parts.db", 4, sampler=sampler)

    def killed(values, report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # in the middle of a trial
        search(tmp_path / "parts.db", sampler=sampler).run(START, killed, math.inf)
    parts = run(tmp_path / "parts.db", 14, sampler=sampler)
    assert [t.values for t in parts.tried.values()] == [t.values for t in whole.tried.values()]


def test_another_seed_tries_other_settings(tmp_path):
    one, other = (run(tmp_path / f"{seed}.db", 3, seed=seed) for seed in (1, 2))
    assert one.start == one.tried[0] and one.tried[1].values != other.tried[1].values
    assert one.tried[1].values != one.tried[2].values


def test_a_trial_below_the_median_is_stopped(tmp_path):
    """The pruner has five trials to compare with before it stops any, and leaves the first step alone."""
    steps = []

    def climb(values, report):
        for step in range(1, 5):
            steps.append((values["a.x"], step))
            report(step, hill(values) * step / 4)
        return hill(values)

    found = run(tmp_path / "study.db", 20, climb)
    assert found.pruned > 0 and len(found.tried) + found.pruned == 20
    reached = {x: max(step for at, step in steps if at == x) for x, _ in steps}
    assert set(reached.values()) - {4} and min(reached.values()) >= 2
    assert all(reached[tried.values["a.x"]] == 4 for tried in found.tried.values())


def test_settings_that_cannot_be_judged_are_passed_over(tmp_path):
    def fussy(values, report):
        if values["a.x"] < 0.5:
            raise ContractViolation("gives NaN scores")
        return hill(values)

    found = run(tmp_path / "study.db", 12, fussy)
    assert found.failed > 0 and len(found.tried) + found.failed == 12
    assert all(tried.values["a.x"] >= 0.5 for tried in found.tried.values())


@pytest.mark.parametrize("error", [ContractViolation("no"), ZeroDivisionError("no")])
def test_a_start_that_cannot_be_judged_ends_the_search(tmp_path, error):
    def refuse(values, report):
        raise error

    made = search(tmp_path / "study.db")
    with pytest.raises(type(error)):
        made.run(START, refuse, math.inf)
    assert made.found() is None


def test_a_fault_of_the_program_is_not_passed_over(tmp_path):
    def broken(values, report):
        if values != START:
            raise ZeroDivisionError
        return 1.0

    with pytest.raises(ZeroDivisionError):
        search(tmp_path / "study.db").run(START, broken, math.inf)


def test_what_matters_is_told_apart_from_what_does_not(tmp_path):
    few = search(tmp_path / "few.db")
    few.run(START, hill, deadline=0)
    assert few.importances() == {}
    run(tmp_path / "study.db", 40, lambda values, report: -abs(values["a.x"] - 0.3), sampler="random")
    importances = search(tmp_path / "study.db").importances()
    assert sum(importances.values()) == pytest.approx(1)
    assert importances["a.x"] > 2 * importances["a.y"]
