"""Tests the dense ids from night to night: sorted, without gaps, unique and never changed."""

import pytest

from recsys_spark.errors import ConcurrentJob
from recsys_spark.stages.clean import indexing


def _ids(spark, *names, column="item_id"):
    return spark.createDataFrame([(name,) for name in names], f"{column} string")


def _all(spark, folder, table="item_index"):
    return {row[0]: row[1] for row in indexing.read_index(spark, folder, table).collect()}


def test_ids_stay_the_same_from_night_to_night(spark, tmp_path):
    index = tmp_path / "items"
    assert indexing.extend(spark, index, "item_index", _ids(spark, "pear", "fig", "Zebra"), "n1") == (3, 4)
    first = {"Zebra": 1, "fig": 2, "pear": 3}
    assert _all(spark, index) == first
    # the same ids, as after a killed run: no new segment
    assert indexing.extend(spark, index, "item_index", _ids(spark, "fig", "pear", "Zebra"), "n1") == (0, 4)
    # a killed run of the second night left a draft
    (index / ".new-n2").mkdir()
    (index / ".new-n2" / "part.parquet").write_text("incomplete")
    assert indexing.extend(spark, index, "item_index", _ids(spark, "apple", "fig", "quince"), "n2", at_most=3) == (2, 6)
    assert _all(spark, index) == {**first, "apple": 4, "quince": 5}
    assert sorted(path.name for path in index.iterdir()) == ["segment=000001", "segment=000002"]


def test_user_ids_start_at_0(spark, tmp_path):
    assert indexing.extend(spark, tmp_path / "users", "user_index", _ids(spark, "b", "a", column="user_id"), "n1") == (
        2,
        2,
    )
    assert _all(spark, tmp_path / "users", "user_index") == {"a": 0, "b": 1}


def test_two_jobs_cannot_both_add_the_next_segment(spark, tmp_path, monkeypatch):
    index = tmp_path / "items"
    write = indexing.tables.write

    def write_after_the_other_job(df, folder, table):
        monkeypatch.setattr(indexing.tables, "write", write)
        indexing.extend(spark, index, "item_index", _ids(spark, "fig"), "other")
        return write(df, folder, table)

    monkeypatch.setattr(indexing.tables, "write", write_after_the_other_job)
    with pytest.raises(ConcurrentJob, match=r"segment=000001 was added by another job\. Run this job again"):
        indexing.extend(spark, index, "item_index", _ids(spark, "apple"), "this")
    assert _all(spark, index) == {"fig": 1}
    assert [path.name for path in index.iterdir()] == ["segment=000001"]
