"""Bad input ends in one error line with its own exit code, publishes nothing, and leaves last night's table alone."""

import gzip
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from night import run
from recsys_spark.pipeline import job
from recsys_spark.pipeline.context import Context
from recsys_spark.stages.clean import stage as clean
from recsys_spark.stages.split import stage as split
from synthetic import write_log, write_overlay


@pytest.fixture
def night(spark, tmp_path, monkeypatch, capsys):
    """Return a function that runs clean and split with overrides; it returns (exit code, error lines)."""
    monkeypatch.setattr(Context, "stop", lambda self: None)  # all tests share the session
    data = write_log(tmp_path / "data")
    overlay = write_overlay(tmp_path / "night.yaml", root=tmp_path / "root", data=data)

    def run(*settings):
        arguments = [f"--set={setting}" for setting in settings]
        code = job.main([clean, split], ["--config", str(overlay), "--run-date", "2026-02-01", *arguments])
        return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    run.data = data
    run.root = tmp_path / "root"
    return run


def truncated_gzip(path):
    whole = gzip.compress((path.parent / "events.csv").read_bytes())
    path.write_bytes(whole[: len(whole) // 2])


def truncated_parquet(path):
    pq.write_table(pa.table({"user_id": ["a"] * 999, "item_id": ["b"] * 999, "timestamp": ["2026-01-01"] * 999}), path)
    path.write_bytes(path.read_bytes()[:-9])


def not_parquet(path):
    path.write_text("user_id,item_id\n")


def without_a_column(path):
    path.write_text("user_id,item,event_type,timestamp\na,b,view,2026-01-01\n")


def header_only(path):
    path.write_text("user_id,item_id,event_type,timestamp\n")


def no_bytes(path):
    path.write_text("")


def nothing_usable(path):
    path.write_text("user_id,item_id,event_type,timestamp\n,b,view,2026-01-01\na,b,view,never\n")


def struct_column(path):
    rows = pa.table({"user_id": ["a"], "item_id": [{"id": "b"}], "event_type": ["view"], "timestamp": ["2026-01-01"]})
    pq.write_table(rows, path)


CASES = [
    (truncated_gzip, "log.csv.gz", 4, ["log.csv.gz"]),
    (truncated_parquet, "log.parquet", 4, ["log.parquet"]),
    (not_parquet, "log.parquet", 4, ["log.parquet"]),
    (without_a_column, "log.csv", 5, ["item_id", "clean.columns.item_id", "log.csv"]),
    (struct_column, "log.parquet", 5, ["item_id", "struct"]),
    (header_only, "log.csv", 6, ["log.csv", "no rows"]),
    (no_bytes, "log.csv", 6, ["log.csv"]),
    (nothing_usable, "log.csv", 7, ["missing_user", "unparsable_time"]),
]


@pytest.mark.parametrize(("make", "name", "exit_code", "words"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_bad_log(night, make, name, exit_code, words):
    path = night.data / name
    make(path)
    code, errors = night(f"paths.events={path}")
    assert (code, len(errors)) == (exit_code, 1), errors
    assert all(word in errors[0] for word in words), errors
    assert not (night.root / "index" / "users").exists(), "a night that failed in clean must not assign ids"


def test_a_missing_log(night):
    code, errors = night("paths.events=/nowhere/*.csv")
    assert code == 3 and len(errors) == 1
    assert "paths.events" in errors[0] and "/nowhere/*.csv" in errors[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_log_without_read_permission(night):
    (night.data / "events.csv").chmod(0)
    code, errors = night()
    assert code == 4 and "events.csv" in errors[0]


def test_a_file_that_disappears(night):
    (night.data / "log").mkdir()
    (night.data / "log" / "a.csv").symlink_to(night.data / "nowhere.csv")
    code, errors = night(f"paths.events={night.data / 'log'}")
    assert code == 4 and len(errors) == 1 and "a.csv cannot be read" in errors[0]


def test_a_folder_without_permission_to_list_it(night, monkeypatch):
    """os.scandir is patched, because root may list everything."""
    folder = night.data / "log" / "date=2026-01-31"
    folder.mkdir(parents=True)
    (night.data / "events.csv").rename(night.data / "log" / "events.csv")
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, errors = night(f"paths.events={night.data / 'log'}")
    assert code == 4 and f"{folder} cannot be listed: Permission denied" in errors[0]


def test_an_invalid_withdrawn_value(night):
    (night.data / "items.csv").write_text("item_id,gone\ni1,1.0\ni2,\ni3,perhaps\n")
    items = (
        f"paths.items={night.data / 'items.csv'}",
        "clean.item_columns={title: null, category: null, withdrawn: gone}",
        "baselines.models=[popularity]",
    )
    code, errors = night(*items)
    assert code == 5 and "item 'i3' has 'perhaps' in column 'gone'" in errors[0]


def test_stack_traces_of_spark_need_debug(tmp_path):
    data = write_log(tmp_path / "data")
    truncated_gzip(data / "log.csv.gz")
    overlay = write_overlay(tmp_path / "night.yaml", root=tmp_path / "root", data=data)
    settings = ("--set", f"paths.events={data / 'log.csv.gz'}")
    done = run("clean", overlay, *settings)
    assert done.returncode == 4
    assert "\tat " not in done.stdout and "Traceback" not in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1].startswith("error: ")
    assert "Traceback" in run("clean", overlay, *settings, "--debug").stdout


def test_several_faults_of_the_configuration(night):
    code, errors = night("clean.colums={}", "split.test_n=0", "paths.events=")
    assert (code, len(errors)) == (2, 3)


def test_a_failed_night_leaves_the_finished_one_alone(night):
    assert night() == (0, [])
    before = {path: path.stat().st_mtime_ns for path in night.root.rglob("*.parquet")}
    bad = night.data / "bad.csv"
    header_only(bad)
    assert night(f"paths.events={bad}")[0] == 6
    now = {path: path.stat().st_mtime_ns for path in (night.root / "index").rglob("*.parquet")}
    assert now == {path: at for path, at in before.items() if "index" in path.parts}
    assert night() == (0, [])
