"""Tests the tables of items and users: blanks, repeated ids, orphans and lists in several formats."""

import logging

import pytest
from pyspark.sql import functions as F

from recsys_spark.spark.input_files import find
from recsys_spark.stages.clean.checkpointed import observed
from recsys_spark.stages.clean.items_and_users import (
    count_missing_item_values,
    count_missing_user_values,
    items_table,
    unique_rows,
    users_table,
)
from recsys_spark.stages.clean.read import ColumnSpec, read

ITEMS = """\
id,name,kinds,about,gone
tea,Green tea,drink| hot||drink,"two
lines",no
tea,Black tea,drink,,yes
ale, ,,,TRUE
,nameless,,,
torn,row
rum,Rum,"[""strong, brown"", ""drink"", "" ""]",,0
jam,Jam,"[not json|sweet",,
"""


def _read(spark, path, columns):
    files = find(str(path), "paths.items", lambda: spark)
    specs = {name: ColumnSpec(source, name) for name, source in columns.items()}
    return read(spark, files, "csv", specs, multi_line=True)


def _counted(table, counts):
    table, values = observed(table, counts)
    table.write.format("noop").mode("append").save()
    return values()


@pytest.fixture(scope="module")
def items(spark, tmp_path_factory):
    path = tmp_path_factory.mktemp("content") / "items.csv"
    path.write_text(ITEMS)
    columns = {"item_id": "id", "title": "name", "categories": "kinds", "text": "about", "withdrawn": "gone"}
    return unique_rows(_read(spark, path, columns), "item_id", "paths.items")


def test_invalid_rows_are_counted_and_logged(spark, tmp_path, caplog):
    (tmp_path / "items.csv").write_text(ITEMS)
    caplog.set_level(logging.WARNING, logger="recsys_spark")
    content = unique_rows(_read(spark, tmp_path / "items.csv", {"item_id": "id"}), "item_id", "paths.items")
    assert (content.rows, content.faults) == (4, {"duplicate_id": 1, "missing_id": 1, "malformed_row": 1})
    assert f"paths.items: 1 rows dropped (duplicate_id). Example: {tmp_path}/items.csv: tea" in caplog.text
    assert "torn,row" in caplog.text


def test_the_table_has_the_items_of_the_file_and_of_the_log(spark, items):
    index = spark.createDataFrame(
        [(i, n) for n, i in enumerate(["tea", "ale", "rum", "jam", "orphan", "old"], 1)],
        "item_id string, item_idx int",
    )
    in_log = spark.createDataFrame([(1,), (5,)], "item_idx int")
    table = items_table(index, items.frame, in_log, separator="|").persist()
    assert {
        row["item_id"]: (row["title"], row["categories"], row["text"], row["withdrawn"]) for row in table.collect()
    } == {
        "tea": ("Green tea", ["drink", "hot"], "two\nlines", False),
        "ale": (None, [], None, True),
        "rum": ("Rum", ["strong, brown", "drink"], None, False),
        "jam": ("Jam", ["[not json", "sweet"], None, False),
        "orphan": (None, [], None, False),
    }
    assert _counted(table, count_missing_item_values(["title", "categories", "text"])) == {
        "items.title": 2,
        "items.categories": 2,
        "items.text": 4,
    }


def test_items_table_without_an_items_file(spark):
    index = spark.createDataFrame([("tea", 1), ("old", 2)], "item_id string, item_idx int")
    table = items_table(index, None, spark.createDataFrame([(1,)], "item_idx int"), separator="|")
    assert [row["item_id"] for row in table.collect()] == ["tea"]


@pytest.mark.parametrize("separator", [".", "\\E", "->"])
def test_a_separator_is_taken_literally(spark, separator):
    index = spark.createDataFrame([("tea", 1)], "item_id string, item_idx int")
    content = spark.createDataFrame([("tea", separator.join(["hot", "drink"]))], "item_id string, categories string")
    table = items_table(index, content, index.select("item_idx"), separator=separator)
    assert table.first()["categories"] == ["hot", "drink"]


def test_users_have_attributes_and_segments(spark):
    index = spark.createDataFrame(
        [(u, n) for n, u in enumerate(["ann", "bob", "eve", "old"])], "user_id string, user_idx bigint"
    )
    content = spark.createDataFrame(
        [("ann", "f", " 30 ", "x"), ("bob", "m", " ", None), ("old", "f", "1", "y")],
        "user_id string, a0 string, a1 string, a2 string",
    )
    user_ids = index.select("user_id").where(F.col("user_id") != "old")
    attributes = {"sex": "a0", "age": "a1", "user id.": "a2"}
    table = users_table(index, content, user_ids, attributes=attributes, segment_by=["age", "sex"]).persist()
    assert {row["user_id"]: (row["segment"], row["attributes"]) for row in table.collect()} == {
        "ann": ("30|f", {"sex": "f", "age": "30", "user id.": "x"}),
        "bob": (None, {"sex": "m"}),
        "eve": (None, {}),
    }
    assert _counted(table, count_missing_user_values(["sex", "age", "user id."])) == {
        "users.sex": 1,
        "users.age": 2,
        "users.user id.": 2,
    }


def test_users_table_without_a_users_file(spark):
    index = spark.createDataFrame([("ann", 0)], "user_id string, user_idx bigint")
    row = users_table(index, None, index.select("user_id"), attributes={}, segment_by=[]).first()
    assert row.asDict() == {"user_idx": 0, "user_id": "ann", "segment": None, "attributes": {}}
