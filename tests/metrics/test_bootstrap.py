import numpy as np
import pytest

from recsys_spark.metrics import bootstrap


def two_columns(users=400, seed=3):
    """Return values [users, 2] with means 0.2 and 0.5."""
    rng = np.random.default_rng(seed)
    return rng.normal([0.2, 0.5], [0.1, 0.3], (users, 2))


def test_intervals_cover_the_known_mean_as_often_as_their_confidence():
    covered = 0
    for seed in range(200):
        values = two_columns(users=60, seed=seed)
        found, _ = bootstrap.estimates(values.mean(axis=0), values, samples=200, confidence=0.9, seed=1)
        covered += found[0].low <= 0.2 <= found[0].high
    # 0.9 of 200, four standard deviations of a binomial either way, and the percentile method is slightly narrow
    assert 200 * 0.9 - 22 <= covered <= 200 * 0.9 + 17


def test_width_is_that_of_the_mean():
    values = two_columns()
    found, _ = bootstrap.estimates(values.mean(axis=0), values, samples=4000, confidence=0.95, seed=1)
    for estimate, column in zip(found, values.T):
        error = column.std() / np.sqrt(len(column))
        assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_equal_models_differ_by_exactly_zero():
    values = np.zeros((50, 1))
    (found,), above = bootstrap.estimates(np.zeros(1), values, samples=100, confidence=0.95, seed=1)
    assert (found.mean, found.low, found.high, above[0]) == (0, 0, 0, 0)


def test_columns_share_their_resamples():
    values = two_columns()[:, :1]
    means = bootstrap.resampled_means(np.hstack([values, values + 1]), samples=50, seed=5)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(50))


def test_the_block_size_changes_nothing(monkeypatch):
    values = two_columns()
    whole = bootstrap.resampled_means(values, samples=30, seed=5)
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * len(values))
    assert bootstrap.resampled_means(values, samples=30, seed=5) == pytest.approx(whole)


def test_the_interval_of_a_sample_is_centred_on_the_mean_of_all():
    values = two_columns()
    own, _ = bootstrap.estimates(values.mean(axis=0), values, samples=500, confidence=0.95, seed=1)
    moved, _ = bootstrap.estimates(values.mean(axis=0) + 0.25, values, samples=500, confidence=0.95, seed=1)
    assert moved[0].low == pytest.approx(own[0].low + 0.25)
    assert moved[0].high == pytest.approx(own[0].high + 0.25)


def test_without_users_everything_is_nan():
    found, above = bootstrap.estimates(np.full(2, np.nan), np.zeros((0, 2)), samples=10, confidence=0.95, seed=1)
    assert np.isnan([found[0].mean, found[0].low, found[1].high, *above]).all()


def grouped(values, samples=400):
    """Return means [G] and resampled means [S, G] of groups of users; `values` has one array for each group."""
    resampled = [bootstrap.resampled_means(v[:, None], samples, seed)[:, 0] for seed, v in enumerate(values)]
    return np.array([v.mean() for v in values]), np.stack(resampled, axis=1)


def test_the_gap_of_equal_groups_covers_0_as_often_as_its_confidence():
    """The groups differ in size. The plain interval of the highest against the lowest covers 0 far too seldom."""
    covered = plain = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        means, resampled = grouped([rng.exponential(1, n) for n in (60, 120, 120, 240, 500)], samples=200)
        best, worst, gap = bootstrap.widest_gap(means, resampled, confidence=0.9)
        covered += gap.low <= 0
        plain += bootstrap.percentiles(resampled[:, best] - resampled[:, worst], 0.9)[0] <= 0
    assert 200 * 0.9 - 22 <= covered <= 200 * 0.9 + 17
    assert plain < 200 * 0.75


@pytest.mark.parametrize(("n_groups", "tukey"), [(2, 2.772), (3, 3.314), (5, 3.858)])
def test_groups_of_equal_errors_have_the_width_of_tukeys_range(n_groups, tukey):
    """The upper 5 % points of the studentized range with infinite degrees of freedom are from Tukey's table."""
    rng = np.random.default_rng(1)
    means, resampled = grouped([rng.normal(0, 1, 400) for _ in range(n_groups)], samples=6000)
    _, _, gap = bootstrap.widest_gap(means, resampled, confidence=0.95)
    assert gap.high - gap.mean == pytest.approx(tukey / np.sqrt(400), rel=0.08)


def test_the_gap_names_the_highest_and_the_lowest():
    means, resampled = grouped([np.full(8, 0.25), np.full(8, 0.5), np.full(8, 0.125)])
    best, worst, gap = bootstrap.widest_gap(means, resampled, confidence=0.95)
    assert (best, worst) == (1, 2)
    # values without variance leave no width
    assert (gap.mean, gap.low, gap.high) == (0.375, 0.375, 0.375)
