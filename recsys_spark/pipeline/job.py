"""Runs stages from a command line to an exit code. Every file of `jobs/` calls `main`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from recsys_spark.columns import BACKTEST
from recsys_spark.errors import ConfigError
from recsys_spark.pipeline import command_line, exit_codes, parent_watchdog
from recsys_spark.pipeline.context import Context, make_context
from recsys_spark.pipeline.lock import run_lock
from recsys_spark.pipeline.logs import start_logging

log = logging.getLogger(__name__)


class Stage(Protocol):
    """The names that a `stage.py` defines. A stage without PASSES runs once, before both passes."""

    @property
    def NAME(self) -> str: ...

    @property
    def PASSES(self) -> tuple[str, ...]: ...

    def run(self, context: Context, pass_name: str | None) -> None: ...


def main(stages: Sequence[Stage], argv: Sequence[str] | None = None) -> int:
    """Run `stages` in each pass, backtest first; return the exit code. No error leaves this function."""
    subject = f"the {stages[0].NAME} stage" if len(stages) == 1 else "all stages"
    arguments = command_line.parse(f"Run {subject} of the nightly job.", argv)
    start_logging(arguments.debug)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # the parent is the JVM of spark-submit, the other half of the driver
        parent_watchdog.exit_with(os.getppid())
    context = None
    try:
        steps = _steps(stages, arguments.passes)
        context = make_context(
            Path(arguments.config),
            arguments.set,
            run_date=arguments.run_date,
            run_id=arguments.run_id,
            force=arguments.force,
        )
        with run_lock(context.layout):
            clock = time.monotonic()
            for stage, pass_name in steps:
                stage.run(context, pass_name)
            log.info("run %s: done in %.1f s", context.layout.run_id, time.monotonic() - clock)
        return 0
    except Exception as error:
        return exit_codes.report(error, arguments.debug)
    finally:
        if context:
            context.stop()


def _steps(stages: Sequence[Stage], passes: Sequence[str]) -> list[tuple[Stage, str | None]]:
    """Return each stage with its pass, in order. Stages without passes come first, unless only the release runs."""
    steps: list[tuple[Stage, str | None]] = []
    if BACKTEST in passes:
        steps += [(stage, None) for stage in stages if not stage.PASSES]
    steps += [(stage, pass_name) for pass_name in passes for stage in stages if pass_name in stage.PASSES]
    if not steps:
        stage = stages[0]
        place = f"in the {stage.PASSES[0]}" if stage.PASSES else "before the backtest"
        raise ConfigError([f"--pass {passes[0]}: the {stage.NAME} stage runs {place}. Leave out --pass"])
    return steps
