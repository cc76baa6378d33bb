"""Every contract is valid, and its Spark and Arrow types agree."""

import json

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import ContractViolation
from recsys_spark.storage import contract as contracts

TABLES = contracts.names()


def test_the_main_tables_have_contracts():
    assert {
        "interactions",
        "quarantine",
        "users",
        "items",
        "folds",
        "histories",
        "examples",
        "candidates",
        "top_n",
    } <= set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_contract_is_complete(table):
    contract = contracts.load(table)
    assert contract.table == table
    assert len(set(contract.columns)) == len(contract.columns)
    assert all(field.meaning for field in contract.fields)
    # Spark reads partition columns back behind all others, so they must stand last
    assert contract.columns[len(contract.columns) - len(contract.partition_by) :] == list(contract.partition_by)


@pytest.mark.parametrize("table", TABLES)
def test_spark_and_arrow_render_the_same_types(spark, table):
    from pyspark.sql.pandas.types import to_arrow_type

    contract = contracts.load(table)
    spark = {field.name: to_arrow_type(field.dataType) for field in contract.spark_schema().fields}
    arrow = {field.name: field.type for field in contract.arrow_schema()}
    assert {k: str(v).replace("element", "item") for k, v in spark.items()} == {k: str(v) for k, v in arrow.items()}


def test_numpy_type_of_a_list_is_that_of_its_elements():
    examples = contracts.load("examples")
    assert contracts.load("histories").field("item_idx").numpy_type == np.dtype(np.int32)
    assert examples.field("weight").numpy_type == np.dtype(np.float32)


def test_arrow_schema_of_some_columns():
    assert contracts.load("folds").arrow_schema("fold", "user_idx") == pa.schema(
        [pa.field("fold", pa.string(), False), pa.field("user_idx", pa.int64(), False)]
    )


def broken(tmp_path, monkeypatch, **changes):
    good = {"table": "t", "description": "d", "key": ["a"], "partition_by": [],
            "fields": [{"name": "a", "type": "int32", "nullable": False, "unit": None, "meaning": "m"}]}  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps({**good, **changes}), encoding="utf-8")
    monkeypatch.setattr(contracts, "_FOLDERS", (tmp_path,))
    contracts.load.cache_clear()
    try:
        with pytest.raises(ContractViolation) as caught:
            contracts.load("t")
    finally:
        contracts.load.cache_clear()
    return str(caught.value)


def test_an_unknown_type_and_a_key_without_field_are_named(tmp_path, monkeypatch):
    field = {"name": "a", "type": "int", "nullable": False, "unit": None, "meaning": "m"}
    assert "unknown types (a: int). Known types: string, int32" in broken(tmp_path, monkeypatch, fields=[field])
    assert "key or partition_by names columns that are not fields: b" in broken(tmp_path, monkeypatch, key=["b"])


def test_unknown_table_lists_the_known():
    with pytest.raises(
        ContractViolation, match=r"table 'fold' has no contract at .*fold\.json\. Known tables: candidates, "
    ):
        contracts.load("fold")
