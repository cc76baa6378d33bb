import numpy as np
import pytest

from recsys_spark.metrics import popularity_bias as bias


def ragged(users):
    return np.cumsum([0, *map(len, users)]), np.array([x for user in users for x in user], float)


def test_the_mean_of_each_user_equals_a_loop():
    rng = np.random.default_rng(1)
    users = [rng.integers(0, 1000, rng.integers(0, 6)).tolist() for _ in range(50)]
    expected = [np.mean(user) if user else np.nan for user in users]
    assert [] in users
    assert bias.mean_by_user(*ragged(users)) == pytest.approx(expected, nan_ok=True)


def test_users_without_items_may_come_first_and_last():
    assert bias.mean_by_user(*ragged([[], [2, 4], [], []])) == pytest.approx([np.nan, 3, np.nan, np.nan], nan_ok=True)
    assert bias.mean_by_user(*ragged([])).tolist() == []


def test_the_mean_does_not_depend_on_the_order():
    items = np.random.default_rng(2).integers(1, 10**6, 999)
    ends = np.array([0, 999])
    assert bias.mean_by_user(ends, items) == bias.mean_by_user(ends, items[::-1])


def test_a_fifth_of_the_items_with_users_is_popular():
    popularity = np.array([0, 3, 9, 0, 1, 9, 2, 0, 4, 0])  # six items have users, a fifth of six is two
    assert np.flatnonzero(bias.popular_items(popularity)).tolist() == [2, 5]
    assert np.flatnonzero(bias.popular_items(popularity, head=0.1)).tolist() == [2]  # the lower index of a tie
    assert not bias.popular_items(np.zeros(4, int)).any()


def test_lift_by_hand():
    found = bias.lift(np.array([100.0, 200.0, 50.0, 0.0]), np.array([300.0, 200.0, 25.0, 7.0]))
    assert found == pytest.approx([2, 0, -1 / 2, np.nan], nan_ok=True)
