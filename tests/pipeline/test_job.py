"""`job.main`: arguments, order of passes and stages, exit codes, error lines."""

import logging

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
def reset_log_level():
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
        FakeStage("clean", (), ran),
        FakeStage("split", ("backtest", "release"), ran, error),
        FakeStage("publish", ("release",), ran),
    ]
    return job.main(stages, ["--config", config, "--run-date", "2026-03-01", *arguments]), ran


def test_clean_runs_once_then_the_backtest_then_the_release(config):
    code, ran = run(config)
    assert code == 0
    assert [r[:2] for r in ran] == [
        ("clean", None),
        ("split", "backtest"),
        ("split", "release"),
        ("publish", "release"),
    ]
    assert {r[2] for r in ran} == {"2026-03-01"}


def test_the_backtest_alone_runs_clean_before_it(config):
    _, ran = run(config, "--pass", "backtest")
    assert [r[:2] for r in ran] == [("clean", None), ("split", "backtest")]


def test_the_release_alone_with_run_id_and_force(config):
    _, ran = run(config, "--pass", "release", "--run-id", "again", "--force")
    assert ran == [("split", "release", "again", True), ("publish", "release", "again", True)]


@pytest.mark.parametrize("error", [EmptyLog("paths.events log.csv:\n no rows"), GateFailed("ndcg 0.01 below 0.02")])
def test_a_known_error_is_one_line_with_its_exit_code(config, capsys, error):
    code, ran = run(config, error=error)
    assert code == type(error).exit_code and ran[-1][0] == "split"
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {' '.join(str(error).split())}"


def test_an_error_of_a_spark_worker_keeps_its_line_and_exit_code(config, capsys):
    """Spark puts the worker's stack trace inside the driver's."""
    text = (
        "An exception was thrown from the Python worker:\nTraceback (most recent call last):\n"
        '  File "topk.py", line 1, in _finite\n'
        "recsys_spark.errors.ContractViolation: item model 'als' gives NaN scores"
        "\n\n\tat org.apache.spark.api.python.BasePythonRunner"
    )
    code, _ = run(config, error=RuntimeError(text))
    assert code == ContractViolation.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == "error: item model 'als' gives NaN scores"


def test_debug_shows_the_stack_trace(config, capsys):
    run(config, "--debug", error=EmptyLog("nothing"))
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_error_is_exit_1_and_names_debug(config, capsys):
    code, _ = run(config, error=ZeroDivisionError("x\ny"))
    assert code == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: ZeroDivisionError: x",
        "error: this is a bug in recsys_spark. Run again with --debug for the stack trace",
    ]


def test_all_faults_of_the_configuration_are_reported_with_exit_2_and_no_stage_runs(config, capsys):
    code, ran = run(config, "--set", "score.topn=3", "--set", "train.epochs=0")
    assert code == 2 and ran == []
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "train.epochs: " in errors[0] and "score.topn: unknown key" in errors[1]


def test_unwritable_root(config, tmp_path, capsys):
    (tmp_path / "root").write_text("a file in the way")
    code, ran = run(config)
    assert code == 8 and ran == []
    assert "cannot be written" in capsys.readouterr().err


def test_two_jobs_on_one_run(config, capsys):
    class Second(FakeStage):
        def run(self, context, pass_name):
            super().run(context, pass_name)
            self.code = run(config)[0]

    stage = Second("split", ("release",), [])
    assert job.main([stage], ["--config", config, "--run-date", "2026-03-01"]) == 0
    assert stage.code == 14
    assert "another job is working on run '2026-03-01'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "passes", "other", "text"),
    [
        ("clean", (), "release", "--pass release: the clean stage runs before the backtest"),
        ("publish", ("release",), "backtest", "--pass backtest: the publish stage runs in the release"),
    ],
)
def test_a_pass_that_the_stage_is_not_part_of_is_an_error(config, capsys, name, passes, other, text):
    ran = []
    assert job.main([FakeStage(name, passes, ran)], ["--config", config, "--pass", other]) == 2
    assert ran == [] and text in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad", [["--run-date", "yesterday"], ["--run-id", "../x"], ["--run-id", ".x"], ["--pass", "nightly"]]
)
def test_bad_arguments_exit_2(config, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        run(config, *bad)
    assert caught.value.code == 2
