"""Popularity as arithmetic on one small log: counts, decay and segments."""

from datetime import timedelta

import numpy as np
import pytest

from factories import moment
from recsys_spark.models.popularity import smooth_shares
from recsys_spark.stages.baselines import popularity

# user, item, days before the newest pair
PAIRS = [(0, 1, 0), (1, 1, 10), (2, 1, 20), (3, 1, 30), (0, 2, 10), (1, 2, 0), (2, 3, 10)]
SEGMENTS = {0: "a", 1: "a", 2: "b", 3: None}


@pytest.fixture(scope="module")
def pairs(spark):
    rows = [(u, i, moment(100) - timedelta(days=age)) for u, i, age in PAIRS]
    return spark.createDataFrame(rows, "user_idx bigint, item_idx int, event_ts timestamp").persist()


@pytest.fixture(scope="module")
def users(spark):
    rows = [*SEGMENTS.items(), (9, "without pairs")]
    return spark.createDataFrame(rows, "user_idx bigint, segment string").persist()


def test_shares_without_decay(pairs):
    model = popularity.fit_events(pairs, None, n_items=6, half_life_days=None)
    np.testing.assert_allclose(model.arrays["scores"], [np.array([0, 4, 2, 1, 0, 0]) / 7], rtol=1e-6)
    assert model.parameters == {"segments": []}
    assert model.n_items == 6


def test_a_pair_counts_half_after_a_half_life(pairs):
    model = popularity.fit_events(pairs, None, n_items=4, half_life_days=10)
    counts = np.array([0, 1 + 1 / 2 + 1 / 4 + 1 / 8, 1 / 2 + 1, 1 / 2])
    np.testing.assert_allclose(model.arrays["scores"], [counts / counts.sum()], rtol=1e-6)


def test_segments_are_ordered_by_size_and_name(pairs, users):
    model = popularity.fit_events(pairs, users, n_items=4, half_life_days=None)
    assert model.parameters["segments"] == ["a", "b"]  # 4 and 2 pairs
    counts = np.array([[0, 4, 2, 1], [0, 2, 2, 0], [0, 1, 0, 1]], float)
    np.testing.assert_allclose(model.arrays["scores"], smooth_shares(counts), rtol=1e-6)


def test_users_of_smaller_segments_count_among_all_users_only(pairs, users, monkeypatch):
    monkeypatch.setattr(popularity, "MAX_SEGMENTS", 1)
    model = popularity.fit_events(pairs, users, n_items=4, half_life_days=20)
    age = {(u, i): 2 ** (-days / 20) for u, i, days in PAIRS}
    all_users = [0, *(sum(w for (_, i), w in age.items() if i == item) for item in (1, 2, 3))]
    segment = [0, age[0, 1] + age[1, 1], age[0, 2] + age[1, 2], 0]
    assert model.parameters["segments"] == ["a"]
    np.testing.assert_allclose(model.arrays["scores"], smooth_shares(np.array([all_users, segment])), rtol=1e-6)
