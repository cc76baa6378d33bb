"""`job.main`: arguments, order of passes and stages, exit codes, one-line errors."""

import logging
import sys
from pathlib import Path

import pytest

from recsys_spark.errors import ContractViolation, EmptyLog, GateFailed
from recsys_spark.pipeline import job


class FakeStage:
    def __init__(self, name, passes, ran, error=None):
        self.NAME, self.PASSES, self.ran, self.error = name, passes, ran, error

    def run(self, context, pass_name):
        self.ran.append((self.NAME, pass_name, context.layout.run_id, context.force))
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def quiet():
    yield
    logging.getLogger("recsys_spark").setLevel(logging.NOTSET)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "conf.yaml"
    path.write_text(f"paths: {{root: {tmp_path / 'root'}, events: log.csv}}\n")
    return str(path)


def run(config, *arguments, error=None):
    ran = []
    stages = [
        FakeStage("clean", ("backtest",), ran),
        FakeStage("split", ("backtest", "release"), ran, error),
        FakeStage("publish", ("release",), ran),
    ]
    return job.main(stages, ["--config", config, "--run-date", "2026-03-01", *arguments]), ran


def test_backtest_then_release_in_order(config):
    code, ran = run(config)
    assert code == 0
    assert [r[:2] for r in ran] == [
        ("clean", "backtest"),
        ("split", "backtest"),
        ("split", "release"),
        ("publish", "release"),
    ]
    assert {r[2] for r in ran} == {"2026-03-01"}


def test_one_pass_run_id_and_force(config):
    _, ran = run(config, "--pass", "release", "--run-id", "again", "--force")
    assert ran == [("split", "release", "again", True), ("publish", "release", "again", True)]


@pytest.mark.parametrize("error", [EmptyLog("paths.events log.csv:\n no rows"), GateFailed("ndcg 0.01 below 0.02")])
def test_a_known_error_is_one_line_and_its_own_exit_code(config, capsys, error):
    code, ran = run(config, error=error)
    assert code == type(error).exit_code and ran[-1][0] == "split"
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {' '.join(str(error).split())}"


def test_what_a_spark_worker_raised_keeps_its_line_and_exit_code(config, capsys):
    """As Spark tells it: the worker's stack trace, inside the driver's."""
    text = (
        "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n"
        "  File \"topk.py\", line 1, in _finite\nrecsys_spark.errors.ContractViolation: item model 'als' gives NaN scores\n\n"
        "\tat org.apache.spark.api.python.BasePythonRunner"
    )
    code, _ = run(config, error=RuntimeError(text))
    assert code == ContractViolation.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == "error: item model 'als' gives NaN scores"


def test_debug_shows_the_stack(config, capsys):
    run(config, "--debug", error=EmptyLog("nothing"))
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_error_is_exit_1_and_points_to_debug(config, capsys):
    code, _ = run(config, error=ZeroDivisionError("x\ny"))
    assert code == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: ZeroDivisionError: x",
        "error: this is a fault of the program; run again with --debug for the stack trace",
    ]


def test_config_faults_are_all_told_with_exit_2_and_no_stage_runs(config, capsys):
    code, ran = run(config, "--set", "score.topn=3", "--set", "train.epochs=0")
    assert code == 2 and ran == []
    assert [line.split(": ", 2)[2] for line in capsys.readouterr().err.splitlines()] == [
        "train.epochs: input should be greater than or equal to 1 (found 0)",
        "score.topn: unknown key; did you mean top_n?",
    ]


def test_unwritable_root(config, tmp_path, capsys):
    (tmp_path / "root").write_text("a file in the way")
    code, ran = run(config)
    assert code == 8 and ran == []
    assert "cannot be written" in capsys.readouterr().err


def test_two_jobs_on_one_run(config, tmp_path, capsys):
    ran = []

    class Second(FakeStage):
        def run(self, context, pass_name):
            super().run(context, pass_name)
            self.code = run(config)[0]

    stage = Second("split", ("release",), ran)
    assert job.main([stage], ["--config", config, "--run-date", "2026-03-01"]) == 0
    assert stage.code == 14
    assert "another job works on run '2026-03-01'" in capsys.readouterr().err


def test_a_pass_that_no_stage_takes_part_in_is_no_success(config, capsys):
    ran = []
    for stage, other in ((("clean", ("backtest",)), "release"), (("publish", ("release",)), "backtest")):
        with pytest.raises(SystemExit) as caught:
            job.main([FakeStage(*stage, ran)], ["--config", config, "--pass", other])
        assert caught.value.code == 2 and ran == []
        assert f"{stage[0]} has no {other} pass" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad", [["--run-date", "yesterday"], ["--run-id", "../x"], ["--run-id", ".x"], ["--pass", "nightly"]]
)
def test_bad_arguments_exit_2(config, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        run(config, *bad)
    assert caught.value.code == 2


@pytest.fixture
def late(tmp_path, monkeypatch):
    """Writes modules of stages and returns the stages that import them later."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        return [job.Later(name) for name in texts]

    yield write
    for name in ("late_first", "late_second"):
        sys.modules.pop(name, None)


FIRST = """
import sys, time
NAME, PASSES = "clean", ("backtest",)
def run(context, pass_name):
    for _ in range(500):
        if "late_second" in sys.modules:
            return
        time.sleep(0.01)
    raise AssertionError("nobody imports the second stage meanwhile")
"""


def test_later_stages_are_imported_while_the_first_one_runs(late, config):
    stages = late(
        late_first=FIRST,
        late_second='NAME, PASSES = "split", ("backtest",)\ndef run(context, pass_name): context.layout.run.mkdir()',
    )
    assert "late_first" not in sys.modules  # naming a stage imports nothing
    assert job.main(stages, ["--config", config, "--run-date", "2026-03-01", "--pass", "backtest"]) == 0
    assert (Path(config).parent / "root" / "runs" / "2026-03-01").is_dir()


def test_a_later_stage_that_cannot_be_imported_says_so_in_its_turn(late, config, capsys):
    stages = late(
        late_first='NAME, PASSES = "clean", ("backtest",)\ndef run(context, pass_name): print("ran")',
        late_second="raise ImportError('no such library')",
    )
    assert job.main(stages, ["--config", config, "--run-date", "2026-03-01"]) == 1
    out, err = capsys.readouterr()
    assert out == "ran\n" and "error: ImportError: no such library" in err
