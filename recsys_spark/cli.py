"""The command `recsys`: what an operator types beside the spark-submit jobs.

A subcommand imports its module when it runs. So `--help` answers at once, and only `tune` starts Spark.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
from collections.abc import Sequence
from pathlib import Path

from recsys_spark.errors import RecsysError
from recsys_spark.pipeline import command_line, exit_codes
from recsys_spark.pipeline.logs import start_logging

INTERRUPTED = 130
"""Exit code after Ctrl-C and after SIGTERM."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit code. No error leaves this function."""
    arguments = _parser().parse_args(argv)
    start_logging(arguments.debug)
    try:
        return int(arguments.run(arguments))
    except Exception as error:
        return exit_codes.report(error, arguments.debug)
    except KeyboardInterrupt:
        log.warning("%s: interrupted. The same command continues", arguments.command)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recsys", description="Commands for the operator of a nightly recommender.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("root", type=Path, metavar="ROOT", help="paths.root of the job")
    run_id = argparse.ArgumentParser(add_help=False)
    run_id.add_argument("--run-id", type=command_line.run_id, help="the run (default: the one that published last)")
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show stack traces and debug messages")

    text = "check the constraints of the published table; exit code 10 when one is violated"
    check = commands.add_parser("check", help=text, description=_sentence(text), parents=[root, debug])
    check.add_argument("--run-date", type=command_line.run_date, help="the night to check (default: the newest)")
    check.set_defaults(run=_check)

    text = "show where a run's table and report are, its accuracy, and the recommendations of a few users"
    show = commands.add_parser("show", help=text, description=_sentence(text), parents=[root, run_id, debug])
    show.set_defaults(run=_show)

    text = "write report.html of a finished run again and print its path"
    report = commands.add_parser("report", help=text, description=_sentence(text), parents=[root, run_id, debug])
    report.set_defaults(run=_report)

    text = "search for better settings by the NDCG on the validation set and write them as an overlay"
    tune = commands.add_parser("tune", help=text, description=_sentence(text))
    _add_tune_arguments(tune)
    tune.set_defaults(run=_tune)

    text = "download a demo data set and write it as a raw log"
    demo = commands.add_parser("demo-data", help=text, description=_sentence(text), parents=[debug])
    demo.add_argument("name", choices=["demo", "retail"], help="demo: MovieLens-1M · retail: The Complete Journey")
    demo.add_argument("--out", type=Path, required=True, help="folder for the files of events, items and users")
    demo.set_defaults(run=_demo_data)
    return parser


def _add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    command_line.add_config_arguments(parser)
    parser.add_argument(
        "--space", type=Path, nargs="+", required=True, help="files of search spaces, such as conf/tune/als.yaml"
    )
    parser.add_argument(
        "--minutes", type=_minutes, required=True, help="time limit of the whole search; the models share what is left"
    )
    parser.add_argument(
        "--sampler", choices=["tpe", "random"], default="tpe", help="tpe is Bayesian optimization (default: tpe)"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the sampler (default: 7)")
    parser.add_argument(
        "--study",
        type=Path,
        help="folder of the search; an existing one is continued (default: tune/<models> under paths.root)",
    )


def _check(arguments: argparse.Namespace) -> int:
    from recsys_spark.operations import check

    return check.run(arguments.root.resolve(), arguments.run_date)


def _show(arguments: argparse.Namespace) -> int:
    from recsys_spark.operations import show

    return show.run(arguments.root, arguments.run_id)


def _report(arguments: argparse.Namespace) -> int:
    from recsys_spark.operations import report

    return report.run(arguments.root, arguments.run_id)


def _tune(arguments: argparse.Namespace) -> int:
    try:
        from recsys_spark.tune import command
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise RecsysError("recsys tune needs Optuna. Install it with pip install 'recsys_spark[tune]'") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a search that is stopped still writes its results
    return command.run(arguments)


def _demo_data(arguments: argparse.Namespace) -> int:
    from recsys_spark.demo import fetch

    return fetch.run(arguments.name, arguments.out)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0. Give a number of minutes")
    return minutes


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
