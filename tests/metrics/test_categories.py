import numpy as np
import pyarrow as pa

from recsys_spark.metrics.categories import Categories

ITEMS = pa.table(
    {
        "item_idx": pa.array([3, 1, 7, 2], pa.int32()),
        "categories": pa.array([["b", "a", "b"], ["b"], ["c"], None], pa.list_(pa.string())),
    }
)


def test_rows_are_sorted_and_hold_a_category_once():
    categories = Categories.of(ITEMS, 5)
    assert categories.indptr.tolist() == [0, 0, 1, 1, 3, 3]  # item 7 is outside, items 0, 2 and 4 have none
    assert categories.codes.tolist() == [1, 0, 1]
    assert categories.matrix.toarray().tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_the_order_of_the_rows_changes_nothing():
    one, other = (Categories.of(rows, 8) for rows in (ITEMS, ITEMS.take([2, 0, 3, 1])))
    assert one.version == other.version != Categories.of(ITEMS, 5).version


def test_items_without_categories():
    assert Categories.none(3).matrix.toarray().tolist() == np.zeros((3, 1)).tolist()
    assert Categories.of(ITEMS.slice(3), 3).version == Categories.none(3).version
