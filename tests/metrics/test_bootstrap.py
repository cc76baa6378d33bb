import numpy as np
import pytest

from recsys_spark.metrics import bootstrap


def world(users=400, seed=3):
    rng = np.random.default_rng(seed)
    return rng.normal([0.2, 0.5], [0.1, 0.3], (users, 2))


def test_intervals_cover_the_known_mean_about_as_often_as_they_say():
    covered = 0
    for seed in range(200):
        values = world(users=60, seed=seed)
        found, _ = bootstrap.estimates(values.mean(axis=0), values, samples=200, confidence=0.9, seed=1)
        covered += found[0].low <= 0.2 <= found[0].high
    # 0.9 of 200, give or take four standard deviations of a binomial and the percentile method's slight narrowness
    assert 200 * 0.9 - 22 <= covered <= 200 * 0.9 + 17


def test_width_is_that_of_the_mean():
    values = world()
    found, _ = bootstrap.estimates(values.mean(axis=0), values, samples=4000, confidence=0.95, seed=1)
    for estimate, column in zip(found, values.T):
        error = column.std() / np.sqrt(len(column))
        assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_no_difference_is_exactly_none():
    values = np.zeros((50, 1))
    (found,), above = bootstrap.estimates(np.zeros(1), values, samples=100, confidence=0.95, seed=1)
    assert (found.mean, found.low, found.high, above[0]) == (0, 0, 0, 0)


def test_columns_share_their_resamples():
    values = world()[:, :1]
    means = bootstrap.resampled_means(np.hstack([values, values + 1]), samples=50, seed=5)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(50))


def test_cutting_the_work_changes_nothing(monkeypatch):
    values = world()
    whole = bootstrap.resampled_means(values, samples=30, seed=5)
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * len(values))
    assert bootstrap.resampled_means(values, samples=30, seed=5) == pytest.approx(whole)


def test_a_sample_keeps_its_width_about_the_mean_of_all():
    values = world()
    own, _ = bootstrap.estimates(values.mean(axis=0), values, samples=500, confidence=0.95, seed=1)
    moved, _ = bootstrap.estimates(values.mean(axis=0) + 0.25, values, samples=500, confidence=0.95, seed=1)
    assert moved[0].low == pytest.approx(own[0].low + 0.25)
    assert moved[0].high == pytest.approx(own[0].high + 0.25)


def test_without_users_nothing_is_known():
    found, above = bootstrap.estimates(np.full(2, np.nan), np.zeros((0, 2)), samples=10, confidence=0.95, seed=1)
    assert np.isnan([found[0].mean, found[0].low, found[1].high, *above]).all()


def grouped(values, samples=400):
    """Means [G] and resampled means [S, G] of groups of users, given as one array each."""
    resampled = [bootstrap.resampled_means(v[:, None], samples, seed)[:, 0] for seed, v in enumerate(values)]
    return np.array([v.mean() for v in values]), np.stack(resampled, axis=1)


def test_the_gap_of_groups_that_are_alike_holds_0_as_often_as_it_says():
    """The groups' sizes differ. The plain interval of the highest against the lowest would hold 0 far too seldom."""
    held = plain = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        means, resampled = grouped([rng.exponential(1, n) for n in (60, 120, 120, 240, 500)], samples=200)
        best, worst, gap = bootstrap.widest_gap(means, resampled, confidence=0.9)
        held += gap.low <= 0
        plain += bootstrap.percentiles(resampled[:, best] - resampled[:, worst], 0.9)[0] <= 0
    assert 200 * 0.9 - 22 <= held <= 200 * 0.9 + 17
    assert plain < 200 * 0.75


@pytest.mark.parametrize(("n_groups", "tukey"), [(2, 2.772), (3, 3.314), (5, 3.858)])
def test_groups_of_equal_errors_have_the_width_of_tukeys_range(n_groups, tukey):
    """Upper 5 % points of the studentized range with infinite degrees of freedom, from Tukey's table."""
    rng = np.random.default_rng(1)
    means, resampled = grouped([rng.normal(0, 1, 400) for _ in range(n_groups)], samples=6000)
    _, _, gap = bootstrap.widest_gap(means, resampled, confidence=0.95)
    assert gap.high - gap.mean == pytest.approx(tukey / np.sqrt(400), rel=0.08)


def test_the_gap_names_the_highest_and_the_lowest():
    means, resampled = grouped([np.full(8, 0.25), np.full(8, 0.5), np.full(8, 0.125)])
    best, worst, gap = bootstrap.widest_gap(means, resampled, confidence=0.95)
    assert (best, worst) == (1, 2)
    # who does not vary leaves no doubt
    assert (gap.mean, gap.low, gap.high) == (0.375, 0.375, 0.375)
