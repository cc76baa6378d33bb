"""Tables keep their contracts when Spark and Arrow write and read them."""

import pyarrow.parquet as pq
import pytest

from factories import moment, put_table
from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import tables

ROWS = [
    {"user_idx": 0, "item_idx": 1, "event_ts": moment(0), "weight": 1.0, "fold": "train"},
    {"user_idx": 0, "item_idx": 2, "event_ts": moment(1), "weight": 2.0, "fold": "test"},
    {"user_idx": 1, "item_idx": 1, "event_ts": None, "weight": 1.0, "fold": "train"},
]


@pytest.fixture(scope="module")
def folder(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "folds"
    columns = contracts.load("folds").columns
    df = spark.createDataFrame([[row[c] for c in columns] for row in ROWS], contracts.load("folds").spark_schema())
    assert tables.write(df.select(*reversed(columns)), folder, "folds") == len(ROWS)
    return folder


def by_key(rows):
    return sorted(rows, key=lambda row: (row["user_idx"], row["item_idx"]))


def test_spark_writes_what_arrow_reads(folder):
    assert by_key(tables.read_arrow(folder, "folds").to_pylist()) == ROWS


def test_spark_reads_what_it_wrote(spark, folder):
    back = by_key(
        [
            row.asDict()
            for row in tables.read(spark, folder, "folds").select("user_idx", "item_idx", "weight", "fold").collect()
        ]
    )
    assert back == [{k: row[k] for k in ("user_idx", "item_idx", "weight", "fold")} for row in ROWS]


def test_arrow_reads_some_columns_of_some_rows(folder):
    import pyarrow.dataset as ds

    table = tables.read_arrow(folder, "folds", ["item_idx"], ds.field("fold") == "test")
    assert table.to_pydict() == {"item_idx": [2]}


def test_spark_reads_a_table_of_the_factories(spark, tmp_path):
    put_table(tmp_path / "folds", "folds", ROWS)
    assert tables.read(spark, tmp_path / "folds", "folds").count() == len(ROWS)


def test_wrong_and_missing_columns_are_all_named(spark, tmp_path):
    df = spark.sql("select 1L as user_idx, 1L as item_idx, 'train' as fold, 1f as weight")
    with pytest.raises(ContractViolation) as caught:
        tables.write(df, tmp_path / "folds", "folds")
    assert (
        str(caught.value)
        == "table folds violates schemas/folds.json: column item_idx is bigint, not int; column event_ts is missing"
    )


def test_null_where_the_contract_forbids_it_fails_the_job(spark, tmp_path):
    df = spark.sql(
        "select 1L as user_idx, cast(null as int) as item_idx, current_timestamp() as event_ts, 1f as weight, "
        "'train' as fold"
    )
    with pytest.raises(Exception, match="table folds: column item_idx is null, which its contract forbids"):
        tables.write(df, tmp_path / "folds", "folds")


def test_max_rows_per_file_limits_files_of_one_row_group(spark, tmp_path):
    df = spark.range(10).selectExpr("cast(id + 1 as int) as item_idx", "id as count").repartition(1)
    tables.write(df, tmp_path / "counts", "item_counts", max_rows_per_file=4)
    files = [pq.ParquetFile(path).metadata for path in (tmp_path / "counts").glob("*.parquet")]
    assert sorted((m.num_rows, m.num_row_groups) for m in files) == [(2, 1), (4, 1), (4, 1)]


def test_a_missing_table_names_the_way_out(spark, tmp_path):
    with pytest.raises(StageMissing, match="table folds is not at .*\\. Run the stage that writes it"):
        tables.read_arrow(tmp_path / "folds", "folds")
