"""From an exception to error lines on stderr and an exit code. The jobs and the command `recsys` end here."""

from __future__ import annotations

import sys
import traceback

from recsys_spark.errors import ConfigError, RecsysError, error_in_trace


def known_error(error: Exception) -> RecsysError | None:
    """Return `error` if this package defines its class, or the package's error that a Spark worker raised inside it."""
    return error if isinstance(error, RecsysError) else error_in_trace(str(error))


def report(error: Exception, debug: bool = False) -> int:
    """Print one line for each fault, and the stack trace when debugging; return the exit code."""
    known = known_error(error)
    for line in _lines(known) if known else _lines_of_a_bug(error, debug):
        print(f"error: {line}", file=sys.stderr)
    if debug:
        traceback.print_exception(error)
    return known.exit_code if known else 1


def _lines(error: RecsysError) -> list[str]:
    return error.faults if isinstance(error, ConfigError) else [" ".join(str(error).split())]


def _lines_of_a_bug(error: Exception, debug: bool) -> list[str]:
    message = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    hint = "this is a bug in recsys_spark. Run again with --debug for the stack trace"
    return [message] if debug else [message, hint]
