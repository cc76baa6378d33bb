"""The Delta table: what readers see before, during and after a publication."""

import json
import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from recsys_spark.errors import PublishConflict, StageMissing
from recsys_spark.stages.publish.stage import expired_nights
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage import contract as contracts
from stages.publish.synthetic_table import old_schema, put_file, rows

NIGHT, NEXT = date(2026, 3, 1), date(2026, 3, 2)
COLUMNS = contracts.load("top_n").columns


def publish(root: Path, name="a", *, night=NIGHT, run_id="r1", output_id="x", version="v1", expired=()):
    lists = rows(run_id, version)
    staged = [put_file(root / "staged", f"{name}-{part}.parquet", lists[part::2]) for part in (0, 1)]
    return delta.publish(root / "top_n", staged, run_date=night, run_id=run_id, output_id=output_id, expired=expired)


def as_delta(folder: Path, version=None) -> list[dict]:
    """What the deltalake reader sees, in the order of users and ranks."""
    query = f"select {', '.join(COLUMNS)} from t order by run_date, user_id, rank"
    table = QueryBuilder().register("t", DeltaTable(folder, version=version)).execute(query).read_all()
    columns = {name: table.column(name).to_pylist() for name in COLUMNS}
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def test_round_trip_by_the_delta_reader_and_by_pyarrow(tmp_path):
    night = publish(tmp_path)
    expected = [{**row, "run_date": NIGHT} for row in rows("r1")]
    assert as_delta(tmp_path / "top_n") == expected
    files = DeltaTable(tmp_path / "top_n").file_uris()
    schema = contracts.load("top_n").arrow_schema()
    parts = ds.partitioning(pa.schema([schema.field("run_date")]), flavor="hive")
    table = ds.dataset(files, schema=schema, partitioning=parts, partition_base_dir=str(tmp_path / "top_n")).to_table()
    assert table.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist() == expected
    assert (night.version, night.rows, len(night.files), night.run_date) == (0, len(expected), 2, NIGHT)
    assert night.bytes == sum(file.stat().st_size for file in night.files)


def test_the_table_says_what_the_contract_says(tmp_path):
    publish(tmp_path)
    table = DeltaTable(tmp_path / "top_n")
    fields = [(f["name"], f["nullable"]) for f in json.loads(table.schema().to_json())["fields"]]
    assert fields == [(f.name, f.nullable) for f in contracts.load("top_n").fields]
    assert table.metadata().partition_columns == ["run_date"]
    actions = table.get_add_actions(flatten=True)
    assert (actions.column("min.rank").to_pylist(), actions.column("max.user_id").to_pylist()) == (
        [1, 1],
        ["u5", "u5"],
    )


def test_a_second_night_stands_beside_the_first(tmp_path):
    publish(tmp_path)
    assert publish(tmp_path, "b", night=NEXT, run_id="r2").version == 1
    assert delta.nights(tmp_path / "top_n") == [NIGHT, NEXT]
    assert [row["run_id"] for row in as_delta(tmp_path / "top_n")] == ["r1"] * 18 + ["r2"] * 18


def test_publishing_a_night_again_replaces_it_in_one_commit_and_old_versions_stay_readable(tmp_path):
    publish(tmp_path)
    publish(tmp_path, "b", night=NEXT, run_id="r2")
    assert publish(tmp_path, "c", run_id="r3", version="v2").version == 2
    now, before = as_delta(tmp_path / "top_n"), as_delta(tmp_path / "top_n", version=1)
    assert {(row["run_date"], row["run_id"], row["model_version"]) for row in now} == {
        (NIGHT, "r3", "v2"),
        (NEXT, "r2", "v1"),
    }
    assert {(row["run_date"], row["run_id"]) for row in before} == {(NIGHT, "r1"), (NEXT, "r2")}
    assert len(now) == len(before) == 2 * 18


def test_old_nights_leave_with_the_commit(tmp_path):
    publish(tmp_path)
    night = publish(tmp_path, "b", night=NEXT, run_id="r2", expired=expired_nights([NIGHT], NEXT, keep_nights=1))
    assert (night.version, delta.nights(tmp_path / "top_n")) == (1, [NEXT])


def test_which_nights_leave():
    days = [date(2026, 3, day) for day in range(1, 8)]
    assert expired_nights(days[:5], days[5], keep_nights=3) == set(days[:3])
    assert expired_nights(days[:3], days[2], keep_nights=3) == set()
    assert expired_nights(days[1:], days[0], keep_nights=3) == set(days[1:4])  # the night itself stays, however old
    assert expired_nights([], days[0], keep_nights=1) == set()


def test_an_output_is_known_as_long_as_its_files_are_live(tmp_path):
    folder = tmp_path / "top_n"
    assert delta.published(folder, NIGHT, "r1", "x") is None
    publish(tmp_path)
    found = delta.published(folder, NIGHT, "r1", "x")
    assert found and (found.version, found.rows) == (0, 18)
    assert delta.published(folder, NIGHT, "r1", "another output") is None
    assert delta.published(folder, NEXT, "r1", "x") is None
    publish(tmp_path, "b", output_id="y")
    assert delta.published(folder, NIGHT, "r1", "x") is None
    DeltaTable(folder).restore(0)
    assert delta.published(folder, NIGHT, "r1", "x") and delta.published(folder, NIGHT, "r1", "y") is None


@pytest.mark.parametrize("first", [True, False])
def test_killed_between_the_move_and_the_commit_readers_see_what_they_saw(tmp_path, monkeypatch, first):
    folder = tmp_path / "top_n"
    if not first:
        publish(tmp_path)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(delta, "_commit", die)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, "killed", run_id="r2", version="v2")
    orphans = sorted(folder.rglob("killed-*.parquet"))
    assert len(orphans) == 2
    if first:
        assert delta.nights(folder) == []
    else:
        assert as_delta(folder) == [{**row, "run_date": NIGHT} for row in rows("r1")]
    night = publish(tmp_path, "again", run_id="r2", version="v2")
    assert {row["model_version"] for row in as_delta(folder)} == {"v2"}
    assert not set(night.files) & set(orphans)
    for orphan in orphans:
        os.utime(orphan, (0, 0))  # long ago
    delta.vacuum(folder, hours=1)
    assert not any(orphan.exists() for orphan in orphans)
    assert len(as_delta(folder)) == 18


def test_vacuum_spares_what_left_lately_and_does_not_commit_for_nothing(tmp_path):
    publish(tmp_path)
    publish(tmp_path, "b", version="v2")
    assert delta.vacuum(tmp_path / "top_n", hours=1) == 0
    assert DeltaTable(tmp_path / "top_n").version() == 1
    assert len(as_delta(tmp_path / "top_n", version=0)) == 18
    assert delta.vacuum(tmp_path / "top_n", hours=0) == 2
    assert {row["model_version"] for row in as_delta(tmp_path / "top_n")} == {"v2"}


def test_another_writer_meanwhile_is_a_conflict(tmp_path, monkeypatch):
    publish(tmp_path)
    honest = delta._commit

    def late(*arguments):
        monkeypatch.setattr(delta, "_commit", honest)
        publish(tmp_path, "quick", night=NEXT, run_id="quick")
        honest(*arguments)

    monkeypatch.setattr(delta, "_commit", late)
    with pytest.raises(PublishConflict, match="another writer has committed since this publication began"):
        publish(tmp_path, "slow", night=NEXT, run_id="slow")
    assert {(row["run_date"], row["run_id"]) for row in as_delta(tmp_path / "top_n")} == {
        (NIGHT, "r1"),
        (NEXT, "quick"),
    }


def test_a_race_for_the_first_commit_is_a_conflict(tmp_path, monkeypatch):
    honest = delta._commit

    def late(*arguments):
        monkeypatch.setattr(delta, "_commit", honest)
        publish(tmp_path, "quick", run_id="quick")
        honest(*arguments)

    monkeypatch.setattr(delta, "_commit", late)
    with pytest.raises(PublishConflict, match="another writer"):
        publish(tmp_path, "slow", run_id="slow")
    assert {row["run_id"] for row in as_delta(tmp_path / "top_n")} == {"quick"}


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "top_n").mkdir()
    (tmp_path / "top_n" / "notes.txt").write_text("mine")
    with pytest.raises(PublishConflict, match=r"not a Delta table and holds notes.txt. Move it away"):
        publish(tmp_path)
    assert [entry.name for entry in (tmp_path / "top_n").iterdir()] == ["notes.txt"]


def test_a_delta_table_of_another_shape_is_left_alone(tmp_path):
    table = pa.table({"user_id": ["u"], "rank": pa.array([1], pa.int64()), "extra": [1]})
    write_deltalake(str(tmp_path / "top_n"), table)
    with pytest.raises(PublishConflict) as caught:
        publish(tmp_path)
    for fault in (
        "column rank is long",
        "column extra is long",
        "column score is missing",
        "partitioned by nothing",
    ):
        assert fault in str(caught.value)
    assert DeltaTable(tmp_path / "top_n").version() == 0


def test_a_table_of_before_there_were_reasons_gets_the_column_and_loses_nothing(tmp_path, monkeypatch):
    old_schema(monkeypatch)
    publish(tmp_path)
    before = QueryBuilder().register("t", DeltaTable(tmp_path / "top_n")).execute("select * from t").read_all()
    assert "because" not in before.column_names
    monkeypatch.undo()
    night = publish(tmp_path, "b", night=NEXT, run_id="r2")
    assert night.version == 2  # 1: the column
    first = [{**row, "because": None, "run_date": NIGHT} for row in rows("r1")]
    second = [{**row, "run_date": NEXT} for row in rows("r2")]
    assert as_delta(tmp_path / "top_n") == first + second
    assert as_delta(tmp_path / "top_n", version=1) == first  # killed between the two commits
    assert publish(tmp_path, "c", run_id="r3").version == 3
    assert {row["run_id"]: row["because"] for row in as_delta(tmp_path / "top_n")} == {"r2": "i7", "r3": "i7"}


def test_a_broken_log_is_a_conflict(tmp_path):
    publish(tmp_path)
    (tmp_path / "top_n" / "_delta_log" / "00000000000000000000.json").write_text("{half a")
    with pytest.raises(PublishConflict, match="is not a readable Delta table"):
        publish(tmp_path, "b")


def test_files_move_across_filesystems_by_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(delta.os, "rename", refuse)
    publish(tmp_path)
    assert len(as_delta(tmp_path / "top_n")) == 18
    assert not list((tmp_path / "staged").iterdir())


def test_asking_for_a_night_that_is_not_there(tmp_path):
    with pytest.raises(StageMissing, match="holds no published table. Run jobs/publish.py"):
        delta.night(tmp_path / "top_n")
    publish(tmp_path)
    with pytest.raises(StageMissing, match="has no night 2026-03-02. Published nights: 2026-03-01"):
        delta.night(tmp_path / "top_n", NEXT)
