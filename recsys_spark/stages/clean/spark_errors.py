"""Translates Spark's errors about input files into one line that names the file.

Spark reads a file only when an action runs, so these errors can come from any job of the stage.
"""

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
_WRONG_CONTENT = "it is damaged, or its suffix names the wrong compression"
_CAUSES = (
    ("Permission denied", "permission denied"),
    ("is not a Parquet file", "it is not a Parquet file, or it is truncated"),
    ("EOFException", "it is truncated, or its suffix names the wrong compression"),
    ("not a gzip file", _WRONG_CONTENT),
    ("ZipException", _WRONG_CONTENT),
    ("IOException", "it is damaged"),
)
"""Texts of Java exceptions and the causes that they stand for. The first match wins."""


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise `InputUnreadable` or `InputMismatch` in place of a Spark error about an input file."""
    try:
        yield
    except (Py4JJavaError, CapturedException) as error:
        translation = _translate(java_messages(error))
        if translation is None:
            raise
        raise translation from error


def java_messages(error: Any) -> list[str]:
    """Return the messages of Java's exceptions, from the outermost to the root cause."""
    exception = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    messages = []
    while exception is not None and len(messages) < 20:
        messages.append(exception.toString())
        exception = exception.getCause()
    return messages or [str(error)]


def unreadable(path: str, messages: list[str]) -> InputUnreadable:
    """Return the error for the file at `path`, a path or a URL-encoded file: URL."""
    name = re.sub(r"^file:/+", "/", unquote(path))
    text, root_cause = "\n".join(messages), messages[-1].splitlines()[0]
    cause = next((cause for pattern, cause in _CAUSES if pattern in text), root_cause)
    return InputUnreadable(f"{name} cannot be read: {cause}. Deliver the file again or remove it from the input")


def _translate(messages: list[str]) -> RecsysError | None:
    text = "\n".join(messages)
    file = _FILE.search(text)
    if "PARQUET_TYPE_ILLEGAL" in text:
        illegal = re.search(r"Illegal Parquet type: (.*?)\. SQLSTATE", text)
        return InputMismatch(
            f"a Parquet file has a column of type {illegal[1] if illegal else 'unknown'}, which Spark cannot read. "
            + ("Write times in microseconds" if "NANOS" in text else "Write the column with another type")
        )
    if "CANNOT_MERGE_SCHEMAS" in text:
        types = re.search(r"incompatible data types (.*?)\. ", text)
        return InputMismatch(
            f"the Parquet files of an input have different types for one column{f': {types[1]}' if types else ''}. "
            "Write the column with the same type in all files"
        )
    if "PARQUET_CONVERSION_FAILURE" in text or "PARQUET_COLUMN_DATA_TYPE_MISMATCH" in text:
        return InputMismatch(
            f"{unquote(file[1]) if file else 'a Parquet file'}: a column has another type than in the other files. "
            "Write the column with the same type in all files"
        )
    return unreadable(file[1], messages) if file else None
