"""Numbers follow the sort order without gaps, whatever the partitions."""

import pytest
from pyspark.sql import functions as F

from recsys_spark.spark.dense_ids import ONE_PARTITION, with_dense_index


@pytest.mark.parametrize("at_most", [None, 101, ONE_PARTITION + 1])
@pytest.mark.parametrize("partitions", [1, 3, 7])
def test_numbers_follow_the_order_whatever_the_partitions(spark, partitions, at_most):
    # (id * 37) % 101 visits 0..100 once each, in no order, and every second group key repeats
    frame = spark.range(101).select(((F.col("id") * 37) % 101).alias("b"), (F.col("id") % 5).cast("string").alias("a"))
    result = with_dense_index(frame.repartitionByRange(partitions, "b"), ["a", "b"], "n", 10, at_most=at_most)

    rows = [tuple(row) for row in result.select("a", "b", "n").collect()]
    in_order = sorted((str(i % 5), (i * 37) % 101) for i in range(101))

    assert sorted(rows) == [(a, b, 10 + n) for n, (a, b) in enumerate(in_order)]
    assert dict(result.dtypes)["n"] == "bigint"


def test_several_ranges_are_numbered_through(spark):
    adaptive = spark.conf.get("spark.sql.adaptive.enabled")
    spark.conf.set("spark.sql.adaptive.enabled", "false")  # or so small a sort is merged into one partition
    try:
        frame = spark.range(50).select((F.lit(49) - F.col("id")).alias("key"))
        result = with_dense_index(frame, ["key"], "n", 1)
        assert result.rdd.getNumPartitions() > 1
        assert sorted((row["key"], row["n"]) for row in result.collect()) == [(key, key + 1) for key in range(50)]
    finally:
        spark.conf.set("spark.sql.adaptive.enabled", adaptive)


def test_no_rows(spark):
    assert with_dense_index(spark.range(0).toDF("key"), ["key"], "n", 3).collect() == []
