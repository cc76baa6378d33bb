"""A stage with a matching manifest is done; any other stage runs again."""

import json

import pytest

from recsys_spark.errors import StageMissing
from recsys_spark.storage.layout import Layout
from recsys_spark.storage.manifest import changed_inputs, output_ids, read, require, run_stage, write_json


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, "night")


def run(layout, settings=None, inputs=None, **options):
    """Run a stage that writes one file; returns (manifest, how often its work ran)."""
    calls = []

    def work(folder):
        calls.append(folder)
        assert not (folder / "data").exists(), "work must start in an empty folder"
        (folder / "data").write_text("x")
        return {"rows": 3}

    manifest = run_stage(
        layout, "split", "backtest", inputs=inputs or {}, settings=settings or {}, work=work, **options
    )
    return manifest, len(calls)


def test_a_finished_stage_is_skipped_unless_forced(layout):
    first, ran = run(layout)
    assert ran == 1 and first.counts == {"rows": 3}
    assert run(layout) == (first, 0)
    again, ran = run(layout, force=True)
    assert ran == 1 and again.fingerprint == first.fingerprint and again.output_id != first.output_id


@pytest.mark.parametrize("change", [{"settings": {"n": 2}}, {"inputs": {"clean": "other"}}])
def test_other_settings_or_inputs_run_again(layout, change):
    first, _ = run(layout, settings={"n": 1}, inputs={"clean": "one"})
    second, ran = run(layout, **{"settings": {"n": 1}, "inputs": {"clean": "one"}, **change})
    assert ran == 1 and second.fingerprint != first.fingerprint


def test_a_killed_stage_leaves_no_manifest_and_starts_in_an_empty_folder(layout):
    def die(folder):
        (folder / "data").write_text("half")
        (folder / "kept").write_text("checkpoint")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(layout, "split", "backtest", inputs={}, settings={}, work=die)
    assert read(layout.stage("split", "backtest")) is None
    _, ran = run(layout, keep=["kept"])
    assert ran == 1 and (layout.stage("split", "backtest") / "kept").read_text() == "checkpoint"


def test_a_forced_stage_that_dies_is_not_finished(layout):
    run(layout)

    def die(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(layout, "split", "backtest", inputs={}, settings={}, work=die, force=True)
    with pytest.raises(
        StageMissing,
        match=r"run 'night' has no finished split stage .*\. Run jobs/split\.py with the same --run-id first",
    ):
        require(layout, "split", "backtest")


def test_a_truncated_manifest_is_no_manifest(layout):
    run(layout)
    path = layout.manifest("split", "backtest")
    path.write_text(path.read_text()[:40])
    assert run(layout)[1] == 1


def test_credentials_never_reach_a_manifest(layout):
    manifest, _ = run(layout, settings={"events": "s3a://key:secret@bucket/log.csv"})
    assert manifest.settings == {"events": "s3a://***@bucket/log.csv"}
    assert "secret" not in layout.manifest("split", "backtest").read_text()


def test_a_stage_that_read_an_earlier_output_must_run_again(layout):
    clean = run_stage(layout, "clean", None, inputs={}, settings={}, work=lambda _: {})
    run(layout, inputs={"clean": clean.output_id, "events": "files"})
    assert require(layout, "split", "backtest").inputs["events"] == "files"
    run_stage(layout, "clean", None, inputs={}, settings={}, work=lambda _: {}, force=True)
    with pytest.raises(StageMissing, match=r"clean has run again since split read it\. Run jobs/split\.py"):
        require(layout, "split", "backtest")


def test_write_json_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    circle: list = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        write_json(path, circle)
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_clean_stage_stands_outside_the_passes(layout):
    assert layout.clean_table("items") == layout.run / "clean" / "items"
    assert layout.table("split", "release", "folds") == layout.run / "release" / "split" / "folds"


def test_clean_is_found_under_the_names_that_version_0_1_0_gave_it(layout):
    clean = run_stage(layout, "clean", None, inputs={}, settings={}, work=lambda _: {})
    for name in ("backtest/clean", "release/clean"):
        split, _ = run(layout, inputs={name: clean.output_id}, force=True)
        assert changed_inputs(layout, split) == []
        split, _ = run(layout, inputs={name: "earlier"}, force=True)
        assert changed_inputs(layout, split) == ["clean"]


def test_output_ids_name_the_steps(layout):
    clean = run_stage(layout, "clean", None, inputs={}, settings={}, work=lambda _: {})
    split, _ = run(layout)
    steps = [("clean", None), ("split", "backtest")]
    assert output_ids(layout, steps) == {"clean": clean.output_id, "backtest/split": split.output_id}


def test_all_runs_leaves_out_lock_files(layout):
    run(layout)
    layout.lock.touch()
    assert layout.all_runs() == [layout]
