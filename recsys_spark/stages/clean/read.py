"""Reads raw files into a frame of strings: one column for each name the configuration maps, and where each row came from.

Values stay text, whatever the format, so that the rules and the quarantine see what was written. CSV needs a header line; files of one input
may differ in the order and number of their columns. A name that no column has may be a folder's, as in `date=2026-01-31/`.
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
from recsys_spark.stages.clean.spark_errors import causes, unreadable

FILE = "__file"
"""URL-encoded path of the row's file; `file_name` makes it readable."""
BLOCK = "__block"
"""Where in the file the row's task began to read."""
MALFORMED = "__malformed"
"""The line as it stands in the file, for a row that could not be taken apart; else null."""

_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_NUMBERS = (*_INTEGERS, "float", "double", "decimal")
_TIMES = ("timestamp", "timestamp_ntz", "date")
TYPES: dict[str, tuple[str, ...]] = {
    "id": ("string", *_INTEGERS, "decimal(n,0)"),
    "time": ("string", *_TIMES),
    "number": ("string", *_NUMBERS),
    "text": ("string", "boolean", *_NUMBERS, *_TIMES),
    "list": ("string", "array<string>", *_NUMBERS),
}
"""Parquet types that each kind of column may have."""
_SAMPLE = 100


@dataclass(frozen=True)
class Wanted:
    """A column to read: `source` is its name in the files, `key` the setting that names it, `kind` a key of `TYPES`."""

    source: str
    key: str
    kind: str = "text"


def read(
    spark: SparkSession,
    files: list[RawFile],
    file_format: str,
    wanted: Mapping[str, Wanted],
    *,
    multi_line: bool = False,
) -> DataFrame:
    """Frame with a string column for each name of `wanted`, and FILE, BLOCK, MALFORMED. `multi_line`: CSV values may hold line breaks.

    Raises `InputMismatch` for a column that is not there or of an unfit type, `InputUnreadable` for a file that cannot be opened.
    """
    if file_format == "parquet":
        return _read_parquet(spark, files, wanted)
    filled = [file for file in files if file.size > 0]
    if not filled:
        return spark.createDataFrame(
            [], ", ".join(f"`{name}` string" for name in (*wanted, FILE, MALFORMED)) + f", `{BLOCK}` bigint"
        )
    if file_format == "jsonl":
        return _read_json(spark, filled, wanted)
    return _read_separated(spark, filled, "\t" if file_format == "tsv" else ",", wanted, multi_line)


def file_name(column: Column) -> Column:
    """A readable path from FILE."""
    # url_decode is made for forms, where '+' is a blank; in a path it is a plus
    return F.regexp_replace(F.url_decode(F.replace(column, F.lit("+"), F.lit("%2B"))), "^file:/+", "/")


def keys_of(spark: SparkSession, file: RawFile) -> dict[str, object]:
    """Keys, each with a value, met in the first lines of a JSON lines file."""
    found: dict[str, object] = {}
    for line in _first_lines(spark, file.path, _SAMPLE):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.update(value)
    return found


def missing(file: str, want: Wanted, have: list[str]) -> InputMismatch:
    """The error for a column that is not there."""
    close = difflib.get_close_matches(want.source, have, n=1, cutoff=0.5)
    hint = f"; nearest: {close[0]}" if close else ""
    return InputMismatch(
        f"{file} has no column {want.source!r}, which {want.key} names; its columns: {', '.join(have) or 'none'}{hint}"
    )


def _read_separated(
    spark: SparkSession, files: list[RawFile], sep: str, wanted: Mapping[str, Wanted], multi_line: bool
) -> DataFrame:
    by_header: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        by_header.setdefault(_header(spark, file.path, sep), []).append(file.path)
    frames = [
        _read_alike(spark, paths, list(header), sep, wanted, multi_line) for header, paths in sorted(by_header.items())
    ]
    return reduce(DataFrame.unionAll, frames)


def _read_alike(
    spark: SparkSession,
    paths: list[str],
    header: list[str],
    sep: str,
    wanted: Mapping[str, Wanted],
    multi_line: bool,
) -> DataFrame:
    """Files of one header. Columns are read by position, so that odd names in the header do no harm."""
    columns = {}
    for name, want in wanted.items():
        if header.count(want.source) > 1:
            raise InputMismatch(
                f"{paths[0]} has {header.count(want.source)} columns {want.source!r}, which {want.key} names; rename one"
            )
        columns[name] = (
            F.col(f"c{header.index(want.source)}") if want.source in header else _from_folder(paths, want, header)
        )
    schema = StructType(
        [StructField(name, StringType()) for name in (*(f"c{i}" for i in range(len(header))), MALFORMED)]
    )
    # quotes are doubled inside quotes (RFC 4180), not escaped by a backslash, which is Spark's own way; TSV knows no quotes
    quotes = {"quote": "", "escape": ""} if sep == "\t" else {"quote": '"', "escape": '"'}
    # with pruned columns Spark would not see that a row has too few or too many of them
    options = {"header": True, "sep": sep, "multiLine": multi_line, "columnPruning": False, **quotes}
    reader = spark.read.schema(schema).options(columnNameOfCorruptRecord=MALFORMED, **options)
    return _selected(reader.csv([for_spark(path) for path in paths]), columns)


def _read_json(spark: SparkSession, files: list[RawFile], wanted: Mapping[str, Wanted]) -> DataFrame:
    sample = keys_of(spark, files[0])
    for want in wanted.values():
        if want.kind != "list" and isinstance(sample.get(want.source), (dict, list)):
            raise InputMismatch(
                f"{files[0].path}: {want.source!r}, which {want.key} names, holds {sample[want.source]!r}; it must be a plain value"
            )
    paths = [file.path for file in files]
    names = sorted({want.source for want in wanted.values()})
    columns = {
        name: F.col(_quoted(want.source))
        if want.source in sample or not _in_folders(paths, want.source)
        else _from_folder(paths, want, [])
        for name, want in wanted.items()
    }
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    reader = spark.read.schema(schema).option("columnNameOfCorruptRecord", MALFORMED)
    return _selected(reader.json([for_spark(path) for path in paths]), columns)


def _read_parquet(spark: SparkSession, files: list[RawFile], wanted: Mapping[str, Wanted]) -> DataFrame:
    paths = [file.path for file in files]
    # dates before 1900 in files of old writers are taken as they stand
    options = {
        "mergeSchema": str(len(files) > 1).lower(),
        "datetimeRebaseMode": "CORRECTED",
        "int96RebaseMode": "CORRECTED",
    }
    df = spark.read.options(**options).parquet(*[for_spark(path) for path in paths])
    types = dict(df.dtypes)
    columns = {}
    for name, want in wanted.items():
        if want.source not in types:
            columns[name] = _from_folder(paths, want, df.columns)
            continue
        _check_type(paths[0], want, types[want.source])
        column = F.col(_quoted(want.source))
        columns[name] = F.to_json(column) if types[want.source].startswith("array") else column.cast("string")
    return _selected(df.withColumn(MALFORMED, F.lit(None).cast("string")), columns)


def _selected(df: DataFrame, columns: Mapping[str, Column]) -> DataFrame:
    meta = [
        F.col("_metadata.file_path").alias(FILE),
        F.col("_metadata.file_block_start").alias(BLOCK),
        F.col(MALFORMED),
    ]
    return df.select(*[column.alias(name) for name, column in columns.items()], *meta)


def _check_type(path: str, want: Wanted, found: str) -> None:
    plain = re.sub(r"^decimal\(\d+,0\)$", "decimal(n,0)", found)
    allowed = TYPES[want.kind]
    if plain in allowed or ("decimal" in allowed and plain.startswith("decimal")):
        return
    raise InputMismatch(
        f"{path}: column {want.source!r}, which {want.key} names, is {found}; it must be one of {', '.join(allowed)}"
    )


def _in_folders(paths: list[str], name: str) -> bool:
    return all(f"/{name}=" in path for path in paths)


def _from_folder(paths: list[str], want: Wanted, have: list[str]) -> Column:
    """The value of a folder `name=value` on the file's path."""
    if not _in_folders(paths, want.source):
        raise missing(next(path for path in paths if f"/{want.source}=" not in path), want, have)
    path = F.url_decode(F.replace(F.col("_metadata.file_path"), F.lit("+"), F.lit("%2B")))
    value = F.regexp_extract(path, f"/{re.escape(want.source)}=([^/]*)/", 1)
    return F.when(value != "__HIVE_DEFAULT_PARTITION__", value)


def _header(spark: SparkSession, path: str, sep: str) -> tuple[str, ...]:
    lines = [line for line in _first_lines(spark, path, 10) if line.strip()]
    first = lines[0].removeprefix("\ufeff") if lines else ""
    return tuple(
        next(
            csv.reader([first], delimiter=sep, quoting=csv.QUOTE_NONE if sep == "\t" else csv.QUOTE_MINIMAL),
            [],
        )
    )


def _first_lines(spark: SparkSession, path: str, count: int) -> list[str]:
    """The first lines of a text file, through Hadoop's client: any file system, any of Spark's compressions."""
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
        raise unreadable(path, causes(error)) from error


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
