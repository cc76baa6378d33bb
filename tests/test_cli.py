"""The command `recsys`: its subcommands, its help, and what it imports."""

import subprocess
import sys

import pytest

from night import REPO
from recsys_spark import cli

COMMANDS = ("check", "show", "report", "tune", "demo-data")
HEAVY = ("pyspark", "torch", "numpy", "pyarrow", "pandas", "numba", "optuna")


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_that_takes_time(arguments):
    code = (
        "import sys; from recsys_spark.cli import main\n"
        f"try: main({arguments!r})\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith("usage: recsys")


def test_the_help_names_every_subcommand(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {name}" in text for name in COMMANDS)


def test_python_m_is_the_same_command_and_check_needs_no_spark(tmp_path):
    code = "import runpy, sys; sys.modules['pyspark'] = None; runpy.run_module('recsys_spark', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(tmp_path)], capture_output=True, text=True, cwd=REPO
    )
    assert done.returncode == 9, done.stderr
    assert done.stderr.startswith("error: ") and "holds no published table" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["chek"], ["check"], ["check", "root", "--run-date", "today"]], ids=" ".join)
def test_bad_arguments_exit_2(arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_tune_without_optuna_names_the_extra():
    code = (
        "import sys; sys.modules['optuna'] = None; from recsys_spark.cli import main\n"
        "sys.exit(main(['tune', '--config', 'c', '--space', 's', '--minutes', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 1
    assert done.stderr == "error: recsys tune needs Optuna. Install it with pip install 'recsys_spark[tune]'\n"


def test_a_bug_shows_its_stack_trace_with_debug(monkeypatch, tmp_path, capsys):
    from recsys_spark.operations import check

    def broken(*_):
        raise ZeroDivisionError("x")

    monkeypatch.setattr(check, "run", broken)
    assert cli.main(["check", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
