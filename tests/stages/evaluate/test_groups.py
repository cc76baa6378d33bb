import itertools

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.stages.evaluate import groups
from recsys_spark.stages.evaluate.groups import GROUP_METRICS
from recsys_spark.stages.evaluate.popularity_groups import UserPopularity
from recsys_spark.stages.evaluate.summary import UserMetrics, finite

BOOTSTRAP = Bootstrap(samples=200, confidence=0.95, seed=1)
MODELS, CUTOFFS = ["als", "fused"], [5, 10]


def make_metrics(ndcg, history=None, segments=None, profile=None, listed=None, popular=None):
    """Return metrics: at 10 those of fused are `ndcg` times their position in `METRICS`, of als half; at 5 all 0."""
    ndcg = np.asarray(ndcg, float)
    n, nothing = len(ndcg), np.full(len(ndcg), np.nan)
    values = np.zeros((n, len(CUTOFFS), len(MODELS), len(METRICS)))
    values[:, 1, 1] = ndcg[:, None] * np.arange(1, len(METRICS) + 1)
    values[:, 1, 0] = values[:, 1, 1] / 2
    history = np.full(n, 3) if history is None else np.asarray(history)
    segments = np.array([None] * n if segments is None else segments, dtype=object)
    metrics = UserMetrics(MODELS, CUTOFFS, n, values, values.sum(axis=0) / max(n, 1), history, segments)
    popularity = (nothing if x is None else np.asarray(x, float) for x in (profile, listed, popular))
    return metrics, UserPopularity(*popularity)


def compare(*args, **kwargs):
    return groups.compare(*make_metrics(*args, **kwargs), "als", 10, BOOTSTRAP)


def named(found, by):
    return {row["group"]: row for row in found["groups"] if row["by"] == by}


NDCG = METRICS.index("ndcg") + 1


def test_groups_are_quarters_segments_and_thirds():
    found = compare(
        np.arange(8) / 100,
        history=[10 * u for u in range(8)],
        segments=["odd" if u % 2 else None for u in range(8)],
        popular=np.arange(8) / 8,
    )
    sizes = [(row["by"], row["group"], row["users"]) for row in found["groups"]]
    assert sizes == [
        ("history", "0–10", 2), ("history", "20–30", 2), ("history", "40–50", 2), ("history", "60–70", 2),
        ("segment", "odd", 4), ("segment", "others or unknown", 4),
        ("popularity", "niche (0–25%)", 3), ("popularity", "mixed (38–50%)", 2),
        ("popularity", "mainstream (62–88%)", 3),
    ]  # fmt: skip


def test_both_models_have_their_own_means():
    first = named(compare(np.arange(8) / 100, history=[10 * u for u in range(8)]), "history")["20–30"]
    for at, name in ((METRICS.index(name) + 1, name) for name in GROUP_METRICS):
        assert first["metrics"][name]["mean"] == pytest.approx(at * (0.02 + 0.03) / 2)
        assert first["best_single"][name]["mean"] == pytest.approx(at * (0.02 + 0.03) / 2 / 2)
        assert first["metrics"][name]["low"] <= at * 0.025 <= first["metrics"][name]["high"]


def test_equal_histories_are_one_group():
    found = compare(np.arange(8) / 100)
    assert [(row["group"], row["users"]) for row in found["groups"]] == [("3", 8)]


def test_without_users_there_are_no_groups():
    found = compare(np.zeros(0))
    assert found == {"groups": [], "gaps": []}


def test_equal_shares_are_split_by_the_mean_popularity_of_the_history():
    found = groups._by_popularity(make_metrics(np.zeros(6), popular=[1] * 6, profile=[5, 1, 4, 2, 6, 3])[1])
    assert [(name, rows.tolist()) for name, rows in found] == [
        ("niche (100%)", [1, 3]), ("mixed (100%)", [2, 5]), ("mainstream (100%)", [0, 4]),
    ]  # fmt: skip


@pytest.mark.parametrize("popular", [[0.5] * 6, [0.1, 0.5, 0.5, 0.5, 0.5, 0.5], [np.nan] * 6])
def test_users_of_equal_popularity_are_no_groups(popular):
    assert groups._by_popularity(make_metrics(np.zeros(6), popular=popular, profile=[3] * 6)[1]) == []


def test_users_without_a_history_are_in_no_popularity_group():
    found = groups._by_popularity(make_metrics(np.zeros(5), popular=[np.nan, 0, 0.5, 1, np.nan])[1])
    assert [rows.tolist() for _, rows in found] == [[1], [2], [3]]


def test_lift_is_the_ratio_of_the_means_over_users_with_both():
    """One user has no history and one no list. The mean of the users' lifts would be another number."""
    nan = np.nan
    found = compare(np.zeros(4), profile=[10, 100, nan, 7], listed=[40, 100, 900, nan])
    (row,) = found["groups"]
    assert row["users"] == 4
    assert row["popularity"]["profile"] == pytest.approx((10 + 100) / 2)
    assert row["popularity"]["list"] == pytest.approx((40 + 100) / 2)
    assert row["popularity"]["lift"]["mean"] == pytest.approx((140 - 110) / 110)


def test_the_interval_of_a_lift_equals_a_naive_loop():
    rng = np.random.default_rng(3)
    profile, listed = rng.gamma(2, 50, 150), rng.gamma(2, 80, 150)
    (row,) = compare(np.zeros(150), profile=profile, listed=listed)["groups"]
    drawn = [rng.integers(0, 150, 150) for _ in range(4000)]
    ratios = [listed[at].mean() / profile[at].mean() - 1 for at in drawn]
    low, high = np.quantile(ratios, [0.025, 0.975])
    found = row["popularity"]["lift"]
    # 200 resamples against 4,000
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.25 * (high - low))
    assert found["low"] < listed.mean() / profile.mean() - 1 < found["high"]


def test_a_constant_lift_has_no_width():
    profile = np.arange(1.0, 41)
    (row,) = compare(np.zeros(40), profile=profile, listed=3 * profile)["groups"]
    assert row["popularity"]["lift"] == pytest.approx({"mean": 2, "low": 2, "high": 2})


def test_without_popularity_the_lift_is_none():
    for profile in (None, np.zeros(5)):
        found = finite(compare(np.zeros(5), profile=profile, listed=np.ones(5)))
        assert found["groups"][0]["popularity"]["lift"] == {"mean": None, "low": None, "high": None}


def test_the_gap_is_between_the_highest_and_the_lowest():
    ndcg = np.concatenate([np.full(50, 0.3), np.full(50, 0.1), np.full(50, 0.2)])
    ndcg += np.tile([0.01, -0.01], 75)
    (gap,) = compare(ndcg, segments=["a"] * 50 + ["b"] * 50 + ["c"] * 50)["gaps"]
    assert (gap["by"], gap["best"], gap["worst"], gap["groups"]) == ("segment", "a", "b", 3)
    assert gap["ndcg"]["mean"] == pytest.approx(NDCG * (0.3 - 0.1))
    assert 0 < gap["ndcg"]["low"] < gap["ndcg"]["mean"] < gap["ndcg"]["high"]


def test_small_groups_take_no_part_in_the_gap():
    ndcg, segments = np.repeat([0.1, 0.2, 0.9], [30, 30, 29]), np.repeat(["a", "b", "tiny"], [30, 30, 29])
    (gap,) = compare(ndcg, segments=segments)["gaps"]
    assert (gap["best"], gap["worst"], gap["groups"]) == ("b", "a", 2)
    assert compare(ndcg[30:], segments=segments[30:])["gaps"] == []


def test_groups_of_equal_size_have_different_resamples():
    """With the same resamples the gap of two groups with equal values would have no width."""
    own = np.random.default_rng(4).random(60)
    (gap,) = compare(np.tile(own, 2), segments=np.repeat(["a", "b"], 60))["gaps"]
    width = 2 * 1.96 * NDCG * own.std() * np.sqrt(2 / 60)
    assert gap["ndcg"]["high"] - gap["ndcg"]["low"] == pytest.approx(width, rel=0.2)


def test_user_popularity_is_in_order_of_the_users():
    columns = {
        "user_idx": [30, 10, 20],
        "profile": [3.0, 1.0, 2.0],
        "listed": [6.0, 4.0, None],
        "popular": [0.3, 0.1, 0.2],
    }
    found = UserPopularity.of(pa.table(columns))
    assert found.profile.tolist() == [1, 2, 3] and found.popular.tolist() == [0.1, 0.2, 0.3]
    assert found.listed == pytest.approx([4, np.nan, 6], nan_ok=True)


def test_cutting_puts_every_user_into_one_group():
    values = np.random.default_rng(5).integers(0, 9, 100)
    parts = groups._cut(values, np.array([2, 5]))
    assert sorted(itertools.chain(*parts)) == list(range(100))
    assert [set(values[rows]) for rows in parts] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}]
