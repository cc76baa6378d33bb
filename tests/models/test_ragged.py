import numpy as np
import pytest

from recsys_spark.models.ragged import cuts, ranges


def test_ranges_stand_one_after_the_other():
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.array([], np.int64), np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize(
    "sizes, limit, expected",
    [
        ([1, 2, 3, 4], 3, [(0, 2), (2, 3), (3, 4)]),
        ([9, 1, 1, 9], 2, [(0, 1), (1, 3), (3, 4)]),
        ([0, 0, 0], 5, [(0, 3)]),
        ([5, 0, 0, 5], 5, [(0, 3), (3, 4)]),
        ([], 5, []),
    ],
)
def test_cuts_fill_up_to_the_limit(sizes, limit, expected):
    assert list(cuts(np.array(sizes, np.int64), limit)) == expected
