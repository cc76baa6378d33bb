"""Tests that files of every format are read as the same text, and that errors name the file."""

import gzip
import json
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import InputMismatch, InputMissing, InputUnreadable
from recsys_spark.spark.input_files import _remote, find, format_of, identity
from recsys_spark.stages.clean.read import FILE, MALFORMED, ColumnSpec, file_name, read
from recsys_spark.stages.clean.spark_errors import translated_errors

SPECS = {
    "user": ColumnSpec("who", "clean.columns.user_id", "id"),
    "item": ColumnSpec("what", "clean.columns.item_id", "id"),
}


def _no_session():
    raise AssertionError("a local path needs no session")


def _find(path):
    return find(str(path), "paths.events", _no_session)


def _read(spark, path, specs=SPECS, **options):
    files = _find(path)
    with translated_errors():
        rows = read(spark, files, format_of(files, "auto", "paths.events"), specs, **options)
        return sorted(
            (tuple(row) for row in rows.select(*specs, MALFORMED, file_name(rows[FILE])).collect()),
            key=lambda row: [str(v) for v in row],
        )


def test_files_of_one_input_may_have_different_columns(spark, tmp_path):
    folder = tmp_path / "a b+[c]"
    folder.mkdir()
    (folder / "1.csv").write_text('\ufeffwho,what\nann,"green ""tea"", hot"\n')
    (folder / "2.csv.gz").write_bytes(gzip.compress(b"what,new column,who\r\nale,7,bob\r\n"))
    (folder / "empty.csv").write_text("")
    (folder / ".hidden.csv").write_text("who,what\nno,no\n")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "3.csv").write_text("who,what\nno,no\n")
    assert _read(spark, folder) == [
        ("ann", 'green "tea", hot', None, f"{folder}/1.csv"),
        ("bob", "ale", None, f"{folder}/2.csv.gz"),
    ]


def test_malformed_csv_rows_keep_their_line(spark, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('who,what,more\nann,tea,1\nbob,ale\n\neve,rum,2,3\nkim,"cut off')
    assert {row[0]: row[2] for row in _read(spark, path)} == {
        "ann": None,
        "bob": "bob,ale",
        "eve": "eve,rum,2,3",
        "kim": 'kim,"cut off',
    }


def test_quotes_in_tsv_are_text(spark, tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text('who\twhat\nann\t"Great" tea\nbob\t"ale\n')
    assert [row[:3] for row in _read(spark, path)] == [("ann", '"Great" tea', None), ("bob", '"ale', None)]


def test_json_lines(spark, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"who": 1, "what": "tea", "more": {"a": 1}}\n{"what": "ale"}\n\n{"who": "x", "what":\n')
    assert [row[:3] for row in _read(spark, path)] == [
        ("1", "tea", None),
        (None, None, '{"who": "x", "what":'),
        (None, "ale", None),
    ]


def test_a_partition_folder_is_a_column(spark, tmp_path):
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"date={day}").mkdir()
        (tmp_path / f"date={day}" / "part.csv").write_text(f"who,what\nann,tea {day}\n")
    specs = {**SPECS, "day": ColumnSpec("date", "clean.columns.event_ts", "time")}
    assert [row[:3] for row in _read(spark, tmp_path, specs)] == [
        ("ann", f"tea {day}", day) for day in ("2026-01-01", "2026-01-02")
    ]
    assert len(_read(spark, tmp_path / "date=*" / "*.csv")) == 2


def test_parquet_types_are_read_as_text(spark, tmp_path):
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    table = pa.table(
        {
            "who": pa.array([7], pa.int64()),
            "what": pa.array([Decimal(8)], pa.decimal128(10, 0)),
            "zone": pa.array([at], pa.timestamp("us", "UTC")),
            "plain": pa.array([at.replace(tzinfo=None)], pa.timestamp("us")),
            "day": pa.array([date(2026, 1, 2)]),
            "price": pa.array([1.25]),
            "kinds": pa.array([["a", "b|c"]]),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    kinds = {"zone": "time", "plain": "time", "day": "time", "price": "number", "kinds": "list"}
    specs = {**SPECS, **{name: ColumnSpec(name, name, kind) for name, kind in kinds.items()}}
    times = "2026-01-02 03:04:05.678901"
    assert _read(spark, tmp_path / "log.parquet", specs)[0][:7] == (
        "7",
        "8",
        times,
        times,
        "2026-01-02",
        "1.25",
        '["a","b|c"]',
    )


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "a.csv",
            "who,whet\n",
            'a.csv: column "what" not found. Found: who, whet. The nearest name is "whet". '
            "Set clean.columns.item_id to the right name",
        ),
        (
            "a.csv",
            "who,what,who\n",
            'a.csv: column "who" (clean.columns.user_id) occurs 2 times in the header. Rename the others',
        ),
        (
            "a.jsonl",
            '{"who": {"id": 1}, "what": 1}\n',
            "a.jsonl: column \"who\" (clean.columns.user_id) has the value {'id': 1}. "
            "Only texts, numbers and booleans are allowed. Choose another column or flatten this one",
        ),
    ],
)
def test_a_wrong_column_is_an_error(spark, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputMismatch) as error:
        _read(spark, tmp_path / name)
    assert str(error.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    "column, message",
    [
        (
            pa.array([{"id": 1}]),
            r'column "who" \(clean.columns.user_id\) has type struct<id:bigint>. Allowed types: string, tinyint',
        ),
        (
            pa.array([b"x"], pa.binary()),
            r'column "who" \(clean.columns.user_id\) has type binary. Allowed types: string',
        ),
        (
            pa.array([1.5]),
            r'column "who" \(clean.columns.user_id\) has type double. Allowed types: string',
        ),
        (
            pa.array([1], pa.timestamp("ns")),
            r"a Parquet file has a column of type INT64 \(TIMESTAMP\(NANOS,false\)\), which Spark cannot read. ",
        ),
    ],
)
def test_an_unsupported_parquet_type_is_an_error(spark, tmp_path, column, message):
    pq.write_table(pa.table({"who": column, "what": ["tea"]}), tmp_path / "a.parquet", version="2.6")
    with pytest.raises(InputMismatch, match=message):
        _read(spark, tmp_path / "a.parquet")


def test_parquet_files_with_different_types_are_an_error(spark, tmp_path):
    pq.write_table(pa.table({"who": ["ann"], "what": ["tea"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"who": [1], "what": ["tea"]}), tmp_path / "b.parquet")
    with pytest.raises(
        InputMismatch,
        match='Parquet files of an input have different types for one column: "(STRING|BIGINT)" and "(STRING|BIGINT)"',
    ):
        _read(spark, tmp_path)


def _damage(tmp_path, name):
    lines = "".join(f"user{i * i % 977},item{i % 31}\n" for i in range(20_000))
    if name == "cut.csv.gz":
        data = gzip.compress(("who,what\n" + lines).encode())
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    elif name == "plain.csv.gz":
        (tmp_path / name).write_text("who,what\nann,tea\n")
    elif name == "cut.jsonl.gz":
        data = gzip.compress("".join(json.dumps({"who": line, "what": 1}) + "\n" for line in lines.split()).encode())
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    elif name == "cut.parquet":
        pq.write_table(pa.table({"who": lines.split(), "what": lines.split()}), tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    else:
        (tmp_path / name).write_text("who,what\n")


@pytest.mark.parametrize(
    "name, cause",
    [
        ("cut.csv.gz", "it is truncated, or its suffix names the wrong compression"),
        ("plain.csv.gz", "it is damaged, or its suffix names the wrong compression"),
        ("cut.jsonl.gz", "it is truncated, or its suffix names the wrong compression"),
        ("cut.parquet", "it is not a Parquet file, or it is truncated"),
        ("text.parquet", "it is not a Parquet file, or it is truncated"),
    ],
)
def test_the_error_names_a_damaged_file(spark, tmp_path, name, cause):
    _damage(tmp_path, name)
    with pytest.raises(InputUnreadable) as error:
        _read(spark, tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name} cannot be read: {cause}. ")
    assert "\n" not in str(error.value)


def test_an_input_without_files_is_an_error(tmp_path):
    for path, message in (
        (
            tmp_path / "none.csv",
            f"paths.events: {tmp_path}/none.csv does not exist. Set it to a file, a folder",
        ),
        (tmp_path / "*.csv", f"paths.events: {tmp_path}/*.csv matches no file. "),
        (tmp_path, f"paths.events: no file in {tmp_path}. "),
    ):
        with pytest.raises(InputMissing) as error:
            _find(path)
        assert str(error.value).startswith(message)


def test_the_suffix_gives_the_format(tmp_path):
    for name in ("a.csv", "b.CSV.gz", "c.tsv", "d.ndjson", "part-0.c000.snappy.parquet", "log.txt"):
        (tmp_path / name).write_text("x")
    formats = {
        name: format_of(_find(tmp_path / name), "auto", "k")
        for name in ("a.csv", "b.CSV.gz", "c.tsv", "d.ndjson", "part-0.c000.snappy.parquet")
    }
    assert list(formats.values()) == ["csv", "csv", "tsv", "jsonl", "parquet"]
    with pytest.raises(
        InputUnreadable,
        match="log.txt: unknown file suffix. Set clean.format to one of csv, tsv, jsonl, parquet",
    ):
        format_of(_find(tmp_path / "log.txt"), "auto", "k")
    with pytest.raises(InputUnreadable, match="k holds files of several formats"):
        format_of(_find(tmp_path / "[ac].*"), "auto", "k")
    assert format_of(_find(tmp_path / "log.txt"), "csv", "k") == "csv"


def test_the_identity_changes_with_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    before = identity(_find(tmp_path))
    assert identity(_find(tmp_path)) == before
    (tmp_path / "a.csv").write_text("xy")
    assert identity(_find(tmp_path)) != before


def test_urls_are_listed_through_hadoop(spark, tmp_path):
    for name in ("date=1/a.csv", "date=1/_SUCCESS", "date=2/b.csv", "_draft/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("who,what\n")
    for url in (f"file:{tmp_path}", f"file:{tmp_path}/date=*"):
        assert [(file.path, file.size) for file in _remote(spark, url)] == [
            (f"file:{tmp_path}/{name}", 9) for name in ("date=1/a.csv", "date=2/b.csv")
        ]
    assert _remote(spark, f"file:{tmp_path}/none") == []
