"""How the items are cut into tasks. What the tasks write and how it is joined, test_item_knn.py and test_content.py look at."""

import numpy as np

from recsys_spark.stages.baselines.neighbour_table import even_ranges


def test_ranges_hold_all_items_and_about_the_same_number_of_pairs():
    degrees = np.random.default_rng(0).integers(0, 50, 400).cumsum()
    ranges = even_ranges(degrees, 5)
    assert [start for start, _ in ranges[1:]] == [stop for _, stop in ranges[:-1]]
    assert (ranges[0][0], ranges[-1][1], len(ranges)) == (0, 400, 5)
    shares = [degrees[start:stop].sum() / degrees.sum() for start, stop in ranges]
    assert 0.19 < min(shares) <= max(shares) < 0.21


def test_an_item_that_holds_most_pairs_leaves_fewer_ranges():
    assert even_ranges(np.array([0, 1, 97, 1, 1]), 5) == [(0, 2), (2, 5)]
    assert even_ranges(np.zeros(3, np.int64), 5) == [(0, 3)]
