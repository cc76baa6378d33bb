"""The plan: early stopping, learning rate, weight of the KL term, and epochs that fit into the time."""

import pytest

from recsys_spark.stages.train.plan import Progress
from stages.train.synthetic_examples import make_plan


def test_training_ends_after_patience_epochs_without_progress():
    plan = make_plan(10, 1, patience=2)
    progress = Progress()
    better = [progress.add({"epoch": e, "ndcg": n}) for e, n in enumerate([0.1, 0.3, 0.3], start=1)]
    assert better == [True, True, False]
    assert not progress.done(plan)
    progress.add({"epoch": 4, "ndcg": 0.2})
    assert progress.done(plan)
    assert progress.best_epoch == 2


@pytest.mark.parametrize(("at", "expected"), [(0.25, 0.5), (0.5, 1.0), (5.25, 0.5), (10, 0.0), (11, 0.0)])
def test_the_learning_rate_rises_and_falls_times_the_workers(at, expected):
    plan = make_plan(10, 5, learning_rate=0.01, warmup_epochs=0.5)
    assert plan.learning_rate(at, workers=3) == pytest.approx(0.01 * 3 * expected, abs=1e-12)


def test_the_learning_rate_without_warmup_starts_at_its_highest():
    plan = make_plan(4, 5, learning_rate=0.01, warmup_epochs=0.0)
    assert plan.learning_rate(1, workers=1) == pytest.approx(0.01 * 3 / 4)


def test_the_learning_rate_does_not_depend_on_where_training_ends():
    """The release stops at the backtest's best epoch and has the same rates until then."""
    backtest, release = make_plan(10, 5, decay_epochs=10), make_plan(7, 5, decay_epochs=10)
    assert [backtest.learning_rate(at, 2) for at in range(8)] == [release.learning_rate(at, 2) for at in range(8)]


@pytest.mark.parametrize(("epoch_seconds", "expected"), [(10.0, None), (12.0, None), (12.1, 4), (70.0, 2)])
def test_epochs_in_time(epoch_seconds, expected):
    assert make_plan(5, 1, seconds=60.0).epochs_in_time(epoch_seconds) == expected
    assert make_plan(5, 1).epochs_in_time(epoch_seconds) is None


def test_a_limit_of_epochs_moves_the_end_of_the_learning_rate():
    plan = make_plan(5, 1)
    assert plan.limited_to(None) == plan
    assert (plan.limited_to(2).epochs, plan.limited_to(2).decay_epochs) == (2, 2)


def test_the_kl_weight_rises_over_the_epochs():
    plan = make_plan(3, 5, kl_weight=0.4, decay_epochs=4)
    assert [plan.kl_weight(at) for at in (0, 1, 3, 4, 5)] == pytest.approx([0, 0.1, 0.3, 0.4, 0.4])


def test_a_warm_start_has_the_full_kl_weight():
    plan = make_plan(2, 5, kl_weight=0.4, warm=True)
    assert [plan.kl_weight(at) for at in (0, 1, 2)] == [0.4] * 3
