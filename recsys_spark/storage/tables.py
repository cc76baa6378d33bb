"""Reads and writes tables. A table is a folder of Parquet files that keeps its contract.

Spark uses `write` and `read`, Arrow `read_arrow`. Writing checks names and types against the contract, so a stage that
departs from the contract fails where it writes, not where another stage reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.storage import contract as contracts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def write(df: DataFrame, folder: Path, table: str, *, max_rows_per_file: int = 0, quick_to_read: bool = False) -> int:
    """Write `df` as `table` into `folder`, which must not hold data yet; return the number of rows.

    Columns are written in the contract's order. `ContractViolation` when a column is missing or has another type. The
    Spark job fails when a column that must not be null is null. `max_rows_per_file` > 0 limits the files, each of
    which has one row group. `quick_to_read` writes no dictionaries and compresses by LZ4: the files are larger, and
    reading takes a third of the time.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    contract = contracts.load(table)
    _check_columns(df, contract)
    observation = Observation(f"{table} rows")
    ready = df.select(*[_guarded(field, table) for field in contract.fields]).observe(
        observation, F.count(F.lit(1)).alias("rows")
    )
    writer = ready.write.mode("append")
    if contract.partition_by:
        writer = writer.partitionBy(*contract.partition_by)
    if max_rows_per_file:
        writer = writer.option("maxRecordsPerFile", max_rows_per_file)
    if quick_to_read:
        writer = writer.option("compression", "lz4_raw").option("parquet.enable.dictionary", "false")
    writer.parquet(str(folder))
    return int(observation.get["rows"])


def read(spark: SparkSession, folder: Path, table: str) -> DataFrame:
    """Return the table as a Spark frame with the contract's types. `StageMissing` when the folder does not exist."""
    _check_folder(folder, table)
    return spark.read.schema(contracts.load(table).spark_schema()).parquet(str(folder))


def read_arrow(
    folder: Path, table: str, columns: list[str] | None = None, filter: ds.Expression | None = None
) -> pa.Table:
    """Return the table in memory, or some of its columns and rows, in the order of the file names."""
    _check_folder(folder, table)
    contract = contracts.load(table)
    dataset = ds.dataset(folder, schema=contract.arrow_schema(), format="parquet", partitioning=partitioning(contract))
    return dataset.to_table(columns=columns or contract.columns, filter=filter)


def partitioning(contract: contracts.Contract) -> ds.Partitioning | None:
    """Return the Hive-style partitioning of a contract."""
    if not contract.partition_by:
        return None
    return ds.partitioning(contract.arrow_schema(*contract.partition_by), flavor="hive")


def _guarded(field: contracts.Field, table: str):  # type: ignore[no-untyped-def]
    """Return the column, guarded by an error that names table and column when a value is null."""
    from pyspark.sql import functions as F

    column = F.col(field.name)
    if field.nullable:
        return column
    error = F.raise_error(F.lit(f"table {table}: column {field.name} is null, which its contract forbids"))
    return F.when(column.isNull(), error.cast(field.spark_type)).otherwise(column).alias(field.name)


def _check_columns(df: DataFrame, contract: contracts.Contract) -> None:
    types = dict(df.dtypes)
    faults = []
    for field in contract.fields:
        if field.name not in types:
            faults.append(f"column {field.name} is missing")
        elif types[field.name] != field.spark_type:
            faults.append(f"column {field.name} is {types[field.name]}, not {field.spark_type}")
    if faults:
        raise ContractViolation(f"table {contract.table} violates schemas/{contract.table}.json: {'; '.join(faults)}")


def _check_folder(folder: Path, table: str) -> None:
    if not folder.is_dir():
        raise StageMissing(
            f"table {table} is not at {folder}. Run the stage that writes it, or jobs/nightly.py for all stages"
        )
