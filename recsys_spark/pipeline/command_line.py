"""The command line of the jobs, read before anything else starts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import date

from recsys_spark.columns import BACKTEST, RELEASE

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def parse(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of a job: config, set, run_date, debug, run_id, passes and force."""
    parser = argparse.ArgumentParser(description=description)
    add_config_arguments(parser)
    parser.add_argument("--run-id", type=run_id, help="name of the run (default: the run date)")
    parser.add_argument(
        "--pass",
        dest="passes",
        action="append",
        choices=[BACKTEST, RELEASE],
        help="run only this pass (default: both)",
    )
    parser.add_argument("--force", action="store_true", help="run stages again that are done")
    arguments = parser.parse_args(argv)
    arguments.passes = arguments.passes or [BACKTEST, RELEASE]
    return arguments


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that reads a configuration."""
    parser.add_argument("--config", required=True, help="overlay file, such as conf/demo.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting (repeatable)",
    )
    parser.add_argument(
        "--run-date",
        type=run_date,
        help="date of the night, YYYY-MM-DD; events from its midnight UTC on are left out (default: today)",
    )
    parser.add_argument("--debug", action="store_true", help="show stack traces and debug messages")


def run_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date. Write YYYY-MM-DD") from None


def run_id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a run id. Use 1 to 64 letters, digits, '.', '_' and '-'. Start with a letter or digit"
        )
    return text
