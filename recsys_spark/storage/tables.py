"""The only reader and writer of tables. A table is a folder of Parquet files that keeps its contract.

Spark frames go through `write`/`read`, Arrow through `read_arrow`. Both sides check names and types against the contract, so a stage
that drifts from it fails where it writes, not where somebody reads.
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
    """Write `df` as `table` into `folder`, which must not hold data yet; returns the number of rows.

    Columns are taken in the contract's order. `ContractViolation` when a column is missing or of another type; the job fails when a column
    that may not be null is null. `max_rows_per_file` > 0 cuts files, each of one row group. `quick_to_read`: without dictionaries and
    packed by LZ4, which takes more room and a third of the time to read.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    contract = contracts.load(table)
    _check_columns(df, contract)
    seen = Observation(f"{table} rows")
    ready = df.select(*[_guarded(field, table) for field in contract.fields]).observe(
        seen, F.count(F.lit(1)).alias("rows")
    )
    writer = ready.write.mode("append")
    if contract.partition_by:
        writer = writer.partitionBy(*contract.partition_by)
    if max_rows_per_file:
        writer = writer.option("maxRecordsPerFile", max_rows_per_file)
    if quick_to_read:
        writer = writer.option("compression", "lz4_raw").option("parquet.enable.dictionary", "false")
    writer.parquet(str(folder))
    return int(seen.get["rows"])


def read(spark: SparkSession, folder: Path, table: str) -> DataFrame:
    """The table as a Spark frame, typed by its contract; `StageMissing` when the folder is not there."""
    _check_folder(folder, table)
    return spark.read.schema(contracts.load(table).spark_schema()).parquet(str(folder))


def read_arrow(
    folder: Path, table: str, columns: list[str] | None = None, filter: ds.Expression | None = None
) -> pa.Table:
    """The table, or some of its columns and rows, in memory on this machine. Row order is that of the files' names."""
    _check_folder(folder, table)
    contract = contracts.load(table)
    wanted = columns or contract.columns
    dataset = ds.dataset(folder, schema=contract.arrow_schema(), format="parquet", partitioning=partitioning(contract))
    return dataset.to_table(columns=wanted, filter=filter)


def partitioning(contract: contracts.Contract) -> ds.Partitioning | None:
    """The Hive-style partitioning a contract asks for."""
    if not contract.partition_by:
        return None
    return ds.partitioning(contract.arrow_schema(*contract.partition_by), flavor="hive")


def _guarded(field: contracts.Field, table: str):  # type: ignore[no-untyped-def]
    """The column, or a failing job that says which table and column was null."""
    from pyspark.sql import functions as F

    column = F.col(field.name)
    if field.nullable:
        return column
    complaint = F.raise_error(F.lit(f"table {table}: column {field.name} is null, which its contract forbids"))
    return F.when(column.isNull(), complaint.cast(field.spark_type)).otherwise(column).alias(field.name)


def _check_columns(df: DataFrame, contract: contracts.Contract) -> None:
    have = dict(df.dtypes)
    faults = []
    for field in contract.fields:
        if field.name not in have:
            faults.append(f"column {field.name} is missing")
        elif have[field.name] != field.spark_type:
            faults.append(f"column {field.name} is {have[field.name]}, not {field.spark_type}")
    if faults:
        raise ContractViolation(f"table {contract.table} breaks schemas/{contract.table}.json: {'; '.join(faults)}")


def _check_folder(folder: Path, table: str) -> None:
    if not folder.is_dir():
        raise StageMissing(
            f"table {table} is not at {folder}; run the stage that writes it (jobs/nightly.py runs them all)"
        )
