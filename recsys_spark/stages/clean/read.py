"""Reads raw files into a frame of strings: one column for each mapped column, and the file that each row comes from.

Values stay text in every format, so that the rules and the quarantine see them as they were written. A CSV file needs a
header. The files of one input may have different columns in different orders. A column may also be a partition folder
on the path, such as `date=2026-01-31/`.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.errors import InputMismatch
from recsys_spark.spark.input_files import RawFile, for_spark
from recsys_spark.stages.clean.spark_errors import java_messages, unreadable

FILE = "__file"
"""URL-encoded path of the row's file. `file_name` decodes it."""
BLOCK = "__block"
"""Byte offset in the file where the row's task began to read."""
MALFORMED = "__malformed"
"""The line of a row that could not be parsed, else null."""

_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_NUMBERS = (*_INTEGERS, "float", "double", "decimal")
_TIMES = ("timestamp", "timestamp_ntz", "date")
PARQUET_TYPES: dict[str, tuple[str, ...]] = {
    "id": ("string", *_INTEGERS, "decimal(n,0)"),
    "time": ("string", *_TIMES),
    "number": ("string", *_NUMBERS),
    "text": ("string", "boolean", *_NUMBERS, *_TIMES),
    "list": ("string", "array<string>", *_NUMBERS),
}
"""Parquet types that each kind of column may have."""
_SAMPLE_LINES = 100


@dataclass(frozen=True)
class ColumnSpec:
    """A column to read.

    `source` is its name in the files, `key` the config key that gives this name, `kind` a key of `PARQUET_TYPES`.
    """

    source: str
    key: str
    kind: str = "text"

    def __str__(self) -> str:
        return f'column "{self.source}" ({self.key})'


def read(
    spark: SparkSession,
    files: list[RawFile],
    file_format: str,
    specs: Mapping[str, ColumnSpec],
    *,
    multi_line: bool = False,
) -> DataFrame:
    """Return a frame with a string column for each name of `specs`, and with FILE, BLOCK and MALFORMED.

    `multi_line` allows line breaks within CSV values. Raises `InputMismatch` for a column that is missing or has an
    unsupported type, and `InputUnreadable` for a file that cannot be opened.
    """
    if file_format == "parquet":
        return _read_parquet(spark, files, specs)
    files = [file for file in files if file.size > 0]
    if not files:
        strings = ", ".join(f"`{name}` string" for name in (*specs, FILE, MALFORMED))
        return spark.createDataFrame([], f"{strings}, `{BLOCK}` bigint")
    if file_format == "jsonl":
        return _read_json(spark, files, specs)
    return _read_separated(spark, files, "\t" if file_format == "tsv" else ",", specs, multi_line)


def file_name(column: Column) -> Column:
    """Return the decoded path of FILE."""
    return F.regexp_replace(_decoded(column), "^file:/+", "/")


def check_json_keys(spark: SparkSession, files: list[RawFile], specs: list[ColumnSpec]) -> None:
    """Raise `InputMismatch` when the first lines of the files lack the key of a column.

    `specs` are the columns without a value in the whole log. A single JSON line may leave out any key.
    """
    first = next(file for file in files if file.size > 0)
    keys = sorted(_json_keys(spark, first)) if specs else []
    for spec in specs:
        if keys and spec.source not in keys:
            raise _missing_column(first.path, spec, keys)


def _read_separated(
    spark: SparkSession, files: list[RawFile], sep: str, specs: Mapping[str, ColumnSpec], multi_line: bool
) -> DataFrame:
    by_header: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        by_header.setdefault(_header(spark, file.path, sep), []).append(file.path)
    frames = [
        _read_same_header(spark, paths, header, sep, specs, multi_line) for header, paths in sorted(by_header.items())
    ]
    return reduce(DataFrame.unionAll, frames)


def _read_same_header(
    spark: SparkSession,
    paths: list[str],
    header: tuple[str, ...],
    sep: str,
    specs: Mapping[str, ColumnSpec],
    multi_line: bool,
) -> DataFrame:
    """Read files with one header. Columns are read by position, so any name is allowed in the header."""
    columns = {}
    for name, spec in specs.items():
        count = header.count(spec.source)
        if count > 1:
            raise InputMismatch(f"{paths[0]}: {spec} occurs {count} times in the header. Rename the others")
        columns[name] = F.col(f"c{header.index(spec.source)}") if count else _from_path(paths, spec, list(header))
    # RFC 4180 doubles a quote within quotes, while Spark's default is a backslash; TSV has no quotes
    quotes = {"quote": "", "escape": ""} if sep == "\t" else {"quote": '"', "escape": '"'}
    # with column pruning Spark would not notice rows with too few or too many columns
    options = {"header": True, "sep": sep, "multiLine": multi_line, "columnPruning": False, **quotes}
    reader = spark.read.schema(_strings([*(f"c{i}" for i in range(len(header))), MALFORMED]))
    reader = reader.options(columnNameOfCorruptRecord=MALFORMED, **options)
    return _selected(reader.csv([for_spark(path) for path in paths]), columns)


def _read_json(spark: SparkSession, files: list[RawFile], specs: Mapping[str, ColumnSpec]) -> DataFrame:
    paths = [file.path for file in files]
    sample = _json_keys(spark, files[0])
    columns = {}
    for name, spec in specs.items():
        value = sample.get(spec.source)
        if spec.kind != "list" and isinstance(value, (dict, list)):
            raise InputMismatch(
                f"{paths[0]}: {spec} has the value {value!r}. Only texts, numbers and booleans are allowed. "
                "Choose another column or flatten this one"
            )
        in_path = spec.source not in sample and _in_paths(paths, spec.source)
        columns[name] = _from_path(paths, spec, []) if in_path else F.col(_quoted(spec.source))
    schema = _strings([*sorted({spec.source for spec in specs.values()}), MALFORMED])
    reader = spark.read.schema(schema).option("columnNameOfCorruptRecord", MALFORMED)
    return _selected(reader.json([for_spark(path) for path in paths]), columns)


def _read_parquet(spark: SparkSession, files: list[RawFile], specs: Mapping[str, ColumnSpec]) -> DataFrame:
    paths = [file.path for file in files]
    # CORRECTED takes dates before 1900 as they are stored; by default Spark refuses those of old writers
    options = {"datetimeRebaseMode": "CORRECTED", "int96RebaseMode": "CORRECTED", "mergeSchema": len(files) > 1}
    df = spark.read.options(**options).parquet(*[for_spark(path) for path in paths])
    types = dict(df.dtypes)
    columns = {}
    for name, spec in specs.items():
        if spec.source not in types:
            columns[name] = _from_path(paths, spec, df.columns)
            continue
        _check_type(paths[0], spec, types[spec.source])
        column = F.col(_quoted(spec.source))
        columns[name] = F.to_json(column) if types[spec.source].startswith("array") else column.cast("string")
    return _selected(df.withColumn(MALFORMED, F.lit(None).cast("string")), columns)


def _selected(df: DataFrame, columns: Mapping[str, Column]) -> DataFrame:
    return df.select(
        *[column.alias(name) for name, column in columns.items()],
        F.col("_metadata.file_path").alias(FILE),
        F.col("_metadata.file_block_start").alias(BLOCK),
        MALFORMED,
    )


def _strings(names: list[str]) -> StructType:
    return StructType([StructField(name, StringType()) for name in names])


def _check_type(path: str, spec: ColumnSpec, parquet_type: str) -> None:
    general = re.sub(r"^decimal\(\d+,0\)$", "decimal(n,0)", parquet_type)
    allowed = PARQUET_TYPES[spec.kind]
    if general in allowed or ("decimal" in allowed and general.startswith("decimal")):
        return
    raise InputMismatch(
        f"{path}: {spec} has type {parquet_type}. Allowed types: {', '.join(allowed)}. "
        "Choose another column or convert this one"
    )


def _missing_column(file: str, spec: ColumnSpec, columns: list[str]) -> InputMismatch:
    """Return the error for a column that the file does not have. `columns` are those that it has."""
    nearest = difflib.get_close_matches(spec.source, columns, n=1, cutoff=0.5)
    hint = f'The nearest name is "{nearest[0]}". ' if nearest else ""
    return InputMismatch(
        f'{file}: column "{spec.source}" not found. Found: {", ".join(columns) or "no columns"}. '
        f"{hint}Set {spec.key} to the right name"
    )


def _in_paths(paths: list[str], name: str) -> bool:
    return all(f"/{name}=" in path for path in paths)


def _from_path(paths: list[str], spec: ColumnSpec, columns: list[str]) -> Column:
    """Return the value of the partition folder `name=value` on the file's path."""
    if not _in_paths(paths, spec.source):
        raise _missing_column(next(path for path in paths if f"/{spec.source}=" not in path), spec, columns)
    path = _decoded(F.col("_metadata.file_path"))
    value = F.regexp_extract(path, f"/{re.escape(spec.source)}=([^/]*)/", 1)
    return F.when(value != "__HIVE_DEFAULT_PARTITION__", value)


def _decoded(path: Column) -> Column:
    # url_decode turns '+' into a blank, as in forms, but in a path '+' is a plus
    return F.url_decode(F.replace(path, F.lit("+"), F.lit("%2B")))


def _header(spark: SparkSession, path: str, sep: str) -> tuple[str, ...]:
    lines = [line for line in _first_lines(spark, path, 10) if line.strip()]
    first = lines[0].removeprefix("\ufeff") if lines else ""
    quoting = csv.QUOTE_NONE if sep == "\t" else csv.QUOTE_MINIMAL
    return tuple(next(csv.reader([first], delimiter=sep, quoting=quoting), []))


def _json_keys(spark: SparkSession, file: RawFile) -> dict[str, object]:
    """Return the keys in the first lines of a JSON Lines file, each with one of its values."""
    keys: dict[str, object] = {}
    for line in _first_lines(spark, file.path, _SAMPLE_LINES):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            keys.update(value)
    return keys


def _first_lines(spark: SparkSession, path: str, count: int) -> list[str]:
    """Return the first lines of a text file. Hadoop's client reads any file system and compression that Spark reads."""
    jvm, conf = spark._jvm, spark._jsc.hadoopConfiguration()
    assert jvm is not None
    try:
        file = jvm.org.apache.hadoop.fs.Path(path)
        stream = file.getFileSystem(conf).open(file)
        codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(conf).getCodec(file)
        reader = jvm.java.io.BufferedReader(
            jvm.java.io.InputStreamReader(codec.createInputStream(stream) if codec else stream, "UTF-8")
        )
        try:
            return list(takewhile(lambda line: line is not None, (reader.readLine() for _ in range(count))))
        finally:
            reader.close()
    except Py4JJavaError as error:
        raise unreadable(path, java_messages(error)) from error


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
