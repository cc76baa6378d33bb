"""Raw files of every kind come in as the same text; what cannot be read is named."""

import gzip
import json
from datetime import date, datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import InputMismatch, InputMissing, InputUnreadable
from recsys_spark.spark.input_files import _remote, find, format_of, identity
from recsys_spark.stages.clean.read import FILE, MALFORMED, Wanted, file_name, read
from recsys_spark.stages.clean.spark_errors import translated

WANTED = {
    "user": Wanted("who", "clean.columns.user_id", "id"),
    "item": Wanted("what", "clean.columns.item_id", "id"),
}


def _no_session():
    raise AssertionError("a local path needs no session")


def _find(path):
    return find(str(path), "paths.events", _no_session)


def _read(spark, path, wanted=WANTED, **how):
    files = _find(path)
    with translated():
        rows = read(spark, files, format_of(files, "auto", "paths.events"), wanted, **how)
        return sorted(
            (tuple(row) for row in rows.select(*wanted, MALFORMED, file_name(rows[FILE])).collect()),
            key=lambda row: [str(v) for v in row],
        )


def test_files_of_other_columns_and_order_in_one_input(spark, tmp_path):
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


def test_torn_csv_rows_are_kept_apart(spark, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('who,what,more\nann,tea,1\nbob,ale\n\neve,rum,2,3\nkim,"cut off')
    assert {row[0]: row[2] for row in _read(spark, path)} == {
        "ann": None,
        "bob": "bob,ale",
        "eve": "eve,rum,2,3",
        "kim": 'kim,"cut off',
    }


def test_tsv_knows_no_quotes(spark, tmp_path):
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


def test_a_folders_name_is_a_column(spark, tmp_path):
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"date={day}").mkdir()
        (tmp_path / f"date={day}" / "part.csv").write_text(f"who,what\nann,tea {day}\n")
    wanted = {**WANTED, "day": Wanted("date", "clean.columns.event_ts", "time")}
    assert [row[:3] for row in _read(spark, tmp_path, wanted)] == [
        ("ann", f"tea {day}", day) for day in ("2026-01-01", "2026-01-02")
    ]
    assert len(_read(spark, tmp_path / "date=*" / "*.csv")) == 2


def test_parquet_of_sensible_types(spark, tmp_path):
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
    wanted = {**WANTED, **{name: Wanted(name, name, kind) for name, kind in kinds.items()}}
    times = "2026-01-02 03:04:05.678901"
    assert _read(spark, tmp_path / "log.parquet", wanted)[0][:7] == (
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
            "a.csv has no column 'what', which clean.columns.item_id names; its columns: who, whet; nearest: whet",
        ),
        (
            "a.csv",
            "who,what,who\n",
            "a.csv has 2 columns 'who', which clean.columns.user_id names; rename one",
        ),
        (
            "a.jsonl",
            '{"who": {"id": 1}, "what": 1}\n',
            "a.jsonl: 'who', which clean.columns.user_id names, holds {'id': 1}; it must be a plain value",
        ),
    ],
)
def test_text_of_other_columns(spark, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputMismatch) as error:
        _read(spark, tmp_path / name)
    assert str(error.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    "column, message",
    [
        (
            pa.array([{"id": 1}]),
            "column 'who', which clean.columns.user_id names, is struct<id:bigint>; it must be one of string, tinyint",
        ),
        (
            pa.array([b"x"], pa.binary()),
            "column 'who', which clean.columns.user_id names, is binary; it must be one of string",
        ),
        (
            pa.array([1.5]),
            "column 'who', which clean.columns.user_id names, is double; it must be one of string",
        ),
        (
            pa.array([1], pa.timestamp("ns")),
            r"a Parquet file holds a column of type INT64 \(TIMESTAMP\(NANOS,false\)\), which Spark cannot read; ",
        ),
    ],
)
def test_parquet_of_unfit_types(spark, tmp_path, column, message):
    pq.write_table(pa.table({"who": column, "what": ["tea"]}), tmp_path / "a.parquet", version="2.6")
    with pytest.raises(InputMismatch, match=message):
        _read(spark, tmp_path / "a.parquet")


def test_parquet_files_at_odds(spark, tmp_path):
    pq.write_table(pa.table({"who": ["ann"], "what": ["tea"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"who": [1], "what": ["tea"]}), tmp_path / "b.parquet")
    with pytest.raises(
        InputMismatch,
        match='Parquet files give one column different types \\("(STRING|BIGINT)" and "(STRING|BIGINT)"\\)',
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
    "name, what",
    [
        ("cut.csv.gz", "it ends too early"),
        ("plain.csv.gz", "it is not the compressed file that its name says, or it is damaged"),
        ("cut.jsonl.gz", "it ends too early"),
        ("cut.parquet", "it is no Parquet file, or its end is missing"),
        ("text.parquet", "it is no Parquet file, or its end is missing"),
    ],
)
def test_a_damaged_file_is_named(spark, tmp_path, name, what):
    _damage(tmp_path, name)
    with pytest.raises(InputUnreadable) as error:
        _read(spark, tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name} cannot be read: {what}")
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path):
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


def test_formats_by_suffix(tmp_path):
    for name in ("a.csv", "b.CSV.gz", "c.tsv", "d.ndjson", "part-0.c000.snappy.parquet", "log.txt"):
        (tmp_path / name).write_text("x")
    told = {
        name: format_of(_find(tmp_path / name), "auto", "k")
        for name in ("a.csv", "b.CSV.gz", "c.tsv", "d.ndjson", "part-0.c000.snappy.parquet")
    }
    assert list(told.values()) == ["csv", "csv", "tsv", "jsonl", "parquet"]
    with pytest.raises(
        InputUnreadable,
        match="log.txt: unknown file suffix. Set clean.format to one of csv, tsv, jsonl, parquet",
    ):
        format_of(_find(tmp_path / "log.txt"), "auto", "k")
    with pytest.raises(InputUnreadable, match="k holds files of several formats"):
        format_of(_find(tmp_path / "[ac].*"), "auto", "k")
    assert format_of(_find(tmp_path / "log.txt"), "csv", "k") == "csv"


def test_a_file_that_changes_has_another_identity(tmp_path):
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
