import itertools
import math

import numpy as np
import pytest

from recsys_spark.metrics import beyond_accuracy as beyond
from recsys_spark.metrics.categories import Categories


def test_coverage_is_the_share_of_items_shown():
    assert beyond.coverage(np.array([3, 0, 1, 0])) == 2 / 4


def test_gini_of_equal_and_of_single_shares():
    assert beyond.gini(np.array([2, 2, 2, 2])) == 0
    assert beyond.gini(np.array([0, 0, 8, 0])) == pytest.approx(3 / 4)


def test_gini_equals_the_mean_absolute_difference():
    x = np.array([5, 1, 0, 7, 3])
    differences = sum(abs(int(a) - int(b)) for a, b in itertools.product(x, x))
    assert beyond.gini(x) == pytest.approx(differences / (2 * len(x) ** 2 * x.mean()))


def test_novelty_weighs_items_by_how_often_they_are_shown():
    # half of the users have the item listed 3 times; nobody has the other, which counts as one user of 8
    found = beyond.novelty(np.array([3, 1]), np.array([4, 0]), users=8)
    assert found == pytest.approx((3 * 1 + 1 * 3) / 4)


def test_average_popularity():
    assert beyond.average_popularity(np.array([3, 1, 0]), np.array([10, 2, 99])) == (3 * 10 + 1 * 2) / 4


@pytest.mark.parametrize(
    "measure", [beyond.gini, lambda x: beyond.novelty(x, x, 5), lambda x: beyond.average_popularity(x, x)]
)
def test_without_lists_the_metric_is_nan(measure):
    assert math.isnan(measure(np.zeros(3, int)))


# items 1..4; 1: {a, b}, 2: {b}, 3: {c}, 4: none
CATEGORIES = Categories(np.array([0, 0, 2, 3, 4, 4]), np.array([0, 1, 1, 2], np.int32), 3)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([1, 2, 3], 1 - (1 / 2 + 0 + 0) / 3),
        ([1, 2, 4], 1 - 1 / 2),  # the item without categories is in no pair
        ([1, 2, 0], 1 - 1 / 2),  # nor is the padding of a list that ends early
        ([1, 1, 1], 0.0),
    ],
)
def test_intra_list_diversity(items, expected):
    assert beyond.intra_list_diversity(np.array([items]), CATEGORIES)[0] == pytest.approx(expected)


def test_diversity_without_a_pair_is_nan():
    assert np.isnan(beyond.intra_list_diversity(np.array([[1, 4, 0], [4, 4, 4]]), CATEGORIES)).all()


def test_concentration_rises_to_one_and_starts_with_the_most_popular():
    curve = beyond.concentration(np.array([0, 6, 2]), popularity=np.array([1, 9, 5]), points=10)
    assert curve == [(1 / 3, 6 / 8), (2 / 3, 8 / 8), (1.0, 8 / 8)]
