"""Spark's Python workers come from our daemon: its modules are imported before the fork."""


def test_workers_have_the_modules_and_find_added_files(spark, tmp_path):
    path = tmp_path / "sent.py"
    path.write_text("value = 7")
    spark.sparkContext.addPyFile(str(path))

    def look(_):
        import sys

        before = "numba" in sys.modules
        import sent

        yield before, sent.value

    assert spark.sparkContext.parallelize([0], 1).mapPartitions(look).collect() == [(True, 7)]
