"""From a command line to a finished stage: arguments → config → session → stages → exit code. Every file of `jobs/` calls `main`."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from recsys_spark.columns import BACKTEST, DROPPED, NETWORK, RELEASE
from recsys_spark.config.config import Config
from recsys_spark.config.load import load
from recsys_spark.errors import ConcurrentJob, ConfigError, RecsysError, RootUnwritable, error_in_trace
from recsys_spark.parallel import ahead
from recsys_spark.pipeline.parent_watchdog import end_with
from recsys_spark.spark.input_files import find
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger("recsys_spark")

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class Context:
    """What a stage works in. `cutoff` is midnight UTC of the run date: events at or after it belong to a later night. `many_stages`: others
    follow in this process, with Python in their tasks."""

    config: Config
    layout: Layout
    run_date: date
    force: bool = False
    many_stages: bool = False
    _session: list[SparkSession] = field(default_factory=list)

    @property
    def cutoff(self) -> datetime:
        return datetime(self.run_date.year, self.run_date.month, self.run_date.day, tzinfo=timezone.utc)

    def models(self, pass_name: str) -> list[str]:
        """The item models of a pass, in their order: in the release without those that the backtest's score stage has dropped.

        Until that stage has run on what stands there now, none is dropped: a model that is left out saves time, one too many does no harm.
        """
        chosen = manifest.current(self.layout, "score", BACKTEST) if pass_name == RELEASE else None
        dropped = chosen.counts.get(DROPPED, []) if chosen else []
        return [name for name in self.config.models if name not in dropped]

    def fitted(self, pass_name: str) -> list[str]:
        """The item models that a pass fits: those of the pass, and what the network's training takes something from, in their order."""
        wanted = set(self.models(pass_name))
        if NETWORK in wanted:
            wanted.update(self.config.train.required_baselines)
        return [name for name in self.config.models if name in wanted]

    @cached_property
    def spark(self) -> SparkSession:
        """The session, started by the first stage that has something to do; contexts made from one another share it."""
        from recsys_spark.spark.session import make_session, start_python_workers

        if self._session:
            return self._session[0]
        s = self.config.session
        clock = time.monotonic()
        session = make_session(
            app_name=s.app_name,
            master=s.master,
            shuffle_partitions=s.shuffle_partitions,
            options=s.options,
            input_bytes=_bytes_of(self.config.paths.events),
            # what the network scores with; imported by every worker for itself it costs seconds of each
            imports=("torch",) if self.config.train.enabled else (),
        )
        log.info("spark: %s, started in %.1f s", session.sparkContext.master, time.monotonic() - clock)
        self._session.append(session)
        if self.many_stages:
            start_python_workers(session)
        return session

    def stop(self) -> None:
        for session in self._session:
            session.stop()


def _bytes_of(path: str) -> int | None:
    """Size of the raw files at a local path; None for a URL, which only Spark can list, and for what cannot be read: the clean stage tells of it."""
    if "://" in path.removeprefix("file://"):
        return None
    try:
        return sum(file.size for file in find(path, "paths.events", _no_session))
    except RecsysError:
        return None


def _no_session() -> SparkSession:
    raise AssertionError("local files are listed without Spark")


class Stage(Protocol):
    """What a `stage.py` offers: its word, the passes it takes part in, and `run`."""

    @property
    def NAME(self) -> str: ...

    @property
    def PASSES(self) -> tuple[str, ...]: ...

    def run(self, context: Context, pass_name: str) -> None: ...


@dataclass(frozen=True)
class Later:
    """The stage in `module`, which is imported when it is first asked for anything."""

    module: str

    @property
    def stage(self) -> Stage:
        return cast(Stage, import_module(self.module))

    @property
    def NAME(self) -> str:
        return self.stage.NAME

    @property
    def PASSES(self) -> tuple[str, ...]:
        return self.stage.PASSES

    def run(self, context: Context, pass_name: str) -> None:
        self.stage.run(context, pass_name)


def import_ahead(stages: Sequence[Stage]) -> None:
    """Import the stages that come later while the first one waits for Spark to start: together they take two seconds."""
    ahead(lambda: [stage.NAME for stage in stages], "imports")


def main(stages: Sequence[Stage], argv: Sequence[str] | None = None) -> int:
    """Run `stages` in each pass, backtest first; returns the exit code and never raises for a known error."""
    arguments = _parse(stages, argv)
    start_log(arguments.debug)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit's JVM is the parent and half of the driver
        end_with(os.getppid())
    context = None
    try:
        context = make_context(arguments)
        context.many_stages = len(stages) > 1
        import_ahead(stages)
        with exclusive(context.layout):
            _run(stages, arguments.passes, context)
        return 0
    except Exception as error:  # the job's last line of defence: one line for the operator, the trace on request
        return tell(error, arguments.debug)
    finally:
        if context:
            context.stop()


def start_log(debug: bool) -> None:
    """The job's own messages on stderr, of others the warnings."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    log.setLevel(logging.DEBUG if debug else logging.INFO)


def known_error(error: Exception) -> RecsysError | None:
    """`error` if it is of the house's family, or the one that a Spark worker raised and Spark tells of in it."""
    return error if isinstance(error, RecsysError) else error_in_trace(str(error))


def tell(error: Exception, debug: bool) -> int:
    """Print what an operator needs to know of `error`, a line for each fault; returns the exit code."""
    known = known_error(error)
    for line in _lines(known) if known else _lines_of_a_fault(error, debug):
        print(f"error: {line}", file=sys.stderr)
    if debug:
        traceback.print_exception(error)
    return known.exit_code if known else 1


def _lines(error: RecsysError) -> list[str]:
    return error.faults if isinstance(error, ConfigError) else [" ".join(str(error).split())]


def _lines_of_a_fault(error: Exception, debug: bool) -> list[str]:
    told = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    hint = "this is a fault of the program; run again with --debug for the stack trace"
    return [told] if debug else [told, hint]


def make_context(arguments: argparse.Namespace) -> Context:
    """Check everything that can be checked before Spark starts."""
    config = load(Path(arguments.config), arguments.set)
    run_date = arguments.run_date or today()
    layout = Layout(Path(config.paths.root).resolve(), arguments.run_id or run_date.isoformat())
    check_writable(layout)
    return Context(config, layout, run_date, arguments.force)


def today() -> date:
    """The date in UTC."""
    return datetime.now(timezone.utc).date()


def check_writable(layout: Layout) -> None:
    """Make the folder of the runs; `RootUnwritable` when nothing can be written there."""
    runs = layout.run.parent
    try:
        runs.mkdir(parents=True, exist_ok=True)
        probe = runs / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise RootUnwritable(
            f"paths.root {layout.root} cannot be written: {error.strerror or error}; choose another or mend its rights"
        ) from error


def _run(stages: Sequence[Stage], passes: Sequence[str], context: Context) -> None:
    clock = time.monotonic()
    for pass_name in passes:
        for stage in stages:
            if pass_name in stage.PASSES:
                stage.run(context, pass_name)
    log.info("run %s: done in %.1f s", context.layout.run_id, time.monotonic() - clock)


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """One job at a time in a run. The lock goes with the process, so a killed job leaves none behind."""
    with open(layout.lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConcurrentJob(
                f"another job works on run {layout.run_id!r} ({layout.lock}); wait for it, or work under another name"
            ) from None
        yield


def _parse(stages: Sequence[Stage], argv: Sequence[str] | None) -> argparse.Namespace:
    what = stages[0].NAME if len(stages) == 1 else "all"
    parser = argparse.ArgumentParser(description=f"Run {what} stage{'s' if what == 'all' else ''} of the nightly job.")
    add_arguments(parser)
    parser.add_argument("--run-id", type=_run_id, help="name of the run (default: the run date)")
    parser.add_argument(
        "--pass",
        dest="passes",
        action="append",
        choices=[BACKTEST, RELEASE],
        help="only this pass (default: both)",
    )
    parser.add_argument("--force", action="store_true", help="run again what is done already")
    arguments = parser.parse_args(argv)
    arguments.passes = arguments.passes or [BACKTEST, RELEASE]
    if not any(pass_name in stage.PASSES for stage in stages for pass_name in arguments.passes):
        parser.error(f"{what} has no {arguments.passes[0]} pass; it takes part in the {stages[0].PASSES[0]} pass")
    return arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that works on a log."""
    parser.add_argument("--config", required=True, help="overlay file, like conf/demo.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting (repeatable)",
    )
    parser.add_argument(
        "--run-date",
        type=_date,
        help="the night, YYYY-MM-DD; events from its midnight UTC on are left out (default: today)",
    )
    parser.add_argument("--debug", action="store_true", help="stack traces and debug messages")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; write YYYY-MM-DD") from None


def _run_id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: letters, digits, '.', '_' and '-' only, at most 64, and not '.' first"
        )
    return text
