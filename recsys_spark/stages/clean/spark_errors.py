"""Turns Spark's complaints about raw files into one line that names the file. Spark meets a broken file only where an action runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors.exceptions.captured import CapturedException

from recsys_spark.errors import InputMismatch, InputUnreadable, RecsysError

_FILE = re.compile(r"FAILED_READ_FILE.*?reading file (\S+?)\.(?:\s|$)", re.DOTALL)
_PHRASES = (
    ("Permission denied", "permission denied"),
    ("is not a Parquet file", "it is no Parquet file, or its end is missing"),
    ("EOFException", "it ends too early; its end is missing or it is not compressed as its name says"),
    ("not a gzip file", "it is not the compressed file that its name says, or it is damaged"),
    ("ZipException", "it is not the compressed file that its name says, or it is damaged"),
    ("IOException", "it is damaged"),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise `InputUnreadable` or `InputMismatch` instead of Spark's error, if that is about an input file."""
    try:
        yield
    except (Py4JJavaError, CapturedException) as error:
        known = _known(causes(error))
        if known is None:
            raise
        raise known from error


def causes(error: Any) -> list[str]:
    """What Java said, from the outermost exception to the root cause."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    said = []
    while java is not None and len(said) < 20:
        said.append(java.toString())
        java = java.getCause()
    return said or [str(error)]


def unreadable(path: str, said: list[str]) -> InputUnreadable:
    """The error for the file at `path` (a path or a URL-encoded file: URL)."""
    name = re.sub(r"^file:/+", "/", unquote(path))
    text = "\n".join(said)
    root = said[-1].splitlines()[0]
    what = next((phrase for sign, phrase in _PHRASES if sign in text), root)
    return InputUnreadable(f"{name} cannot be read: {what}; deliver it again or take it away")


def _known(said: list[str]) -> RecsysError | None:
    text = "\n".join(said)
    match = _FILE.search(text)
    if "PARQUET_TYPE_ILLEGAL" in text:
        kind = re.search(r"Illegal Parquet type: (.*?)\. SQLSTATE", text)
        hint = "write times in microseconds" if "NANOS" in text else "write the column in another type"
        return InputMismatch(
            f"a Parquet file holds a column of type {kind[1] if kind else 'unknown'}, which Spark cannot read; {hint}"
        )
    if "CANNOT_MERGE_SCHEMAS" in text:
        kinds = re.search(r"incompatible data types (.*?)\. ", text)
        return InputMismatch(
            f"Parquet files give one column different types ({kinds[1] if kinds else 'unlike'}); write all of them alike"
        )
    if "PARQUET_CONVERSION_FAILURE" in text or "PARQUET_COLUMN_DATA_TYPE_MISMATCH" in text:
        return InputMismatch(
            f"{unquote(match[1]) if match else 'a Parquet file'}: a column has another type than in the other files; write all alike"
        )
    return unreadable(match[1], said) if match else None
