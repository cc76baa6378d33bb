"""The error family. Each class has the exit code that a job ends with, so that a scheduler can tell them apart.

A message states the rule, the value it met (file, column or key) and the way out, in one line.
"""

from __future__ import annotations

import re


class RecsysError(Exception):
    """Base of every error a job reports in one line. Exit code 1 is left to faults of the program itself."""

    exit_code = 1


class ConfigError(RecsysError):
    """The configuration has faults; `faults` lists all of them, one line each."""

    exit_code = 2

    def __init__(self, faults: list[str]):
        self.faults = faults
        super().__init__("\n".join(faults))


class InputMissing(RecsysError):
    """A path that the configuration names does not exist or matches no file."""

    exit_code = 3


class InputUnreadable(RecsysError):
    """An input file is truncated, corrupt, not of the stated format, or may not be read."""

    exit_code = 4


class InputMismatch(RecsysError):
    """An input lacks a column that the configuration maps, or has it in a type that cannot be used."""

    exit_code = 5


class EmptyLog(RecsysError):
    """The event log has no rows at all."""

    exit_code = 6


class AllQuarantined(RecsysError):
    """The event log has rows, and none of them is usable."""

    exit_code = 7


class RootUnwritable(RecsysError):
    """`paths.root` cannot be created or written."""

    exit_code = 8


class StageMissing(RecsysError):
    """A stage was started before the stages whose tables it reads."""

    exit_code = 9


class ContractViolation(RecsysError):
    """A table breaks its contract or a stage's own law; nothing that depends on it may go on."""

    exit_code = 10


class TrainingFailed(RecsysError):
    """A training worker ended with an error or was killed; the next run resumes from the last checkpoint."""

    exit_code = 11


class GateFailed(RecsysError):
    """The backtest did not pass the gates: nothing is published, last night's table stays."""

    exit_code = 12


class PublishConflict(RecsysError):
    """The published table cannot take this commit (another writer, or a table of another shape)."""

    exit_code = 13


class ConcurrentJob(RecsysError):
    """Another job holds this run's lock."""

    exit_code = 14


def error_in_trace(text: str) -> RecsysError | None:
    """The error of this family that a stack trace in `text` ends with: what a Spark worker raised comes to the driver as text alone."""
    found = re.findall(rf"^{re.escape(__name__)}\.(\w+): (.+)$", text, re.MULTILINE)
    kinds = {kind.__name__: kind for kind in RecsysError.__subclasses__()}
    known = [(kinds[name], message) for name, message in found if name in kinds and name != "ConfigError"]
    return known[-1][0](known[-1][1]) if known else None
