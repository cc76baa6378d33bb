"""The comparator of published tables accepts near-ties and nothing else."""

import pandas as pd
import pytest

from night import assert_same_table


def table(*rows):
    columns = ["user_id", "item_id", "rank", "score", "source"]
    return pd.DataFrame(
        [["u", item, rank, score, source] for rank, (item, score, source) in enumerate(rows, 1)], columns=columns
    )


ONE = table(("a", 100.0, "als"), ("b", 50.0, "svd"), ("c", 49.9999, "als"))
"""The scores of b and c differ by less than 1e-5 of the largest score."""


@pytest.mark.parametrize(
    "same",
    [
        ONE,
        table(("a", 100.0001, "als"), ("b", 50.0, "svd"), ("c", 49.9999, "als")),
        table(("a", 100.0, "als"), ("c", 50.0, "als"), ("b", 49.9999, "svd")),
        table(("a", 100.0, "als"), ("b", 50.0, "svd"), ("d", 49.9998, "als")),
    ],
    ids=["equal", "rounded score", "near-tie", "near-tie at the end"],
)
def test_near_ties_are_the_same_table(same):
    assert_same_table(ONE, same)
    assert_same_table(same, ONE)


@pytest.mark.parametrize(
    "other",
    [
        table(("a", 100.1, "als"), ("b", 50.0, "svd"), ("c", 49.9999, "als")),
        table(("b", 100.0, "svd"), ("a", 50.0, "als"), ("c", 49.9999, "als")),
        table(("d", 100.0, "als"), ("b", 50.0, "svd"), ("c", 49.9999, "als")),
        table(("a", 100.0, "als"), ("b", 50.0, "als"), ("c", 49.9999, "als")),
        table(("a", 100.0, "als"), ("b", 50.0, "svd")),
        ONE.assign(user_id="v"),
    ],
    ids=["score", "order", "item", "source", "length", "user"],
)
def test_other_differences_are_not(other):
    with pytest.raises(AssertionError):
        assert_same_table(ONE, other)
