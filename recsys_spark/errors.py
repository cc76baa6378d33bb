"""The errors that a job reports in one line, each with its exit code, so that a scheduler can tell them apart.

A message says what is wrong, where (file, column or key, and value), and the way out.
"""

from __future__ import annotations

import re


class RecsysError(Exception):
    """Base of all reported errors. Exit code 1 is left to faults of the program itself."""

    exit_code = 1


class ConfigError(RecsysError):
    """The configuration is invalid. `faults` lists every fault, one line each."""

    exit_code = 2

    def __init__(self, faults: list[str]):
        self.faults = faults
        super().__init__("\n".join(faults))


class InputMissing(RecsysError):
    """An input path does not exist or matches no file."""

    exit_code = 3


class InputUnreadable(RecsysError):
    """An input file is truncated, corrupt, of another format, or may not be read."""

    exit_code = 4


class InputMismatch(RecsysError):
    """An input lacks a configured column, or the column has an unusable type."""

    exit_code = 5


class EmptyLog(RecsysError):
    """The event log has no rows."""

    exit_code = 6


class AllQuarantined(RecsysError):
    """The event log has rows, but all of them were quarantined."""

    exit_code = 7


class RootUnwritable(RecsysError):
    """`paths.root` cannot be created or written."""

    exit_code = 8


class StageMissing(RecsysError):
    """A stage was started before the stages whose output it reads."""

    exit_code = 9


class ContractViolation(RecsysError):
    """A table breaks its contract or an invariant of its stage. Later stages must not run."""

    exit_code = 10


class TrainingFailed(RecsysError):
    """A training worker failed or was killed. The next run resumes from the last checkpoint."""

    exit_code = 11


class GateFailed(RecsysError):
    """The backtest did not pass the gates. Nothing is published, and the last night's table stays."""

    exit_code = 12


class PublishConflict(RecsysError):
    """The published table cannot take the commit: another writer was faster, or the schema differs."""

    exit_code = 13


class ConcurrentJob(RecsysError):
    """Another job works on the same run or has just changed the id index."""

    exit_code = 14


def error_in_trace(text: str) -> RecsysError | None:
    """Return the last error of this module in the stack trace `text`, or None.

    An error raised in a Spark worker reaches the driver only as the text of its stack trace.
    """
    lines = re.findall(rf"^{re.escape(__name__)}\.(\w+): (.+)$", text, re.MULTILINE)
    classes = {cls.__name__: cls for cls in RecsysError.__subclasses__() if cls is not ConfigError}
    errors = [classes[name](message) for name, message in lines if name in classes]
    return errors[-1] if errors else None
