"""The order of ties is each user's own, the same everywhere, and ends every sort."""

import numpy as np

from recsys_spark.spark.tie_order import tie_order


def test_no_two_items_of_a_user_share_a_key():
    items = np.arange(1, 200_001)
    assert len(np.unique(tie_order(np.int64(12_345), items))) == len(items)


def test_any_two_items_come_in_either_order_equally_often():
    users = np.arange(40_000)
    for one, other in [(1, 2), (3, 4), (5, 50), (10, 3_000), (70_000, 2_000_000_000)]:
        first = (tie_order(users, np.int64(one)) < tie_order(users, np.int64(other))).mean()
        assert abs(first - 0.5) < 0.02, (one, other, first)


def test_spark_and_python_agree(spark):
    pairs = [(0, 1), (7, 3), (2**40, 2**31 - 2), (123_456_789, 42)]
    df = spark.createDataFrame(pairs, "u bigint, i bigint")
    found = df.select(tie_order(df.u, df.i)).collect()
    assert [row[0] for row in found] == [tie_order(*pair) for pair in pairs]
