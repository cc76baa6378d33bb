"""Finds the raw files of an input and their format.

Runs before Spark starts, unless the input is a URL. The clean stage reads the files.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_spark.errors import InputMissing, InputUnreadable
from recsys_spark.hashing import digest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FORMATS = {
    "csv": "csv",
    "tsv": "tsv",
    "json": "jsonl",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
}
_COMPRESSED = frozenset({"gz", "bz2", "zst", "zstd", "snappy", "lz4", "deflate"})
_WAY_OUT = "Set it to a file, a folder with files or a glob"


@dataclass(frozen=True)
class RawFile:
    """A file of raw data. `path` is absolute or a URL, `size` is in bytes, `modified` changes when the file does."""

    path: str
    size: int
    modified: int


def find(path: str, key: str, session: Callable[[], SparkSession]) -> list[RawFile]:
    """Return the files of `path`, sorted by path. `InputMissing`, with the config key `key`, if there are none.

    `path` is a file, a folder at any depth or a glob, local or a URL. Files and folders whose names begin with '.' or
    '_' are left out, as Spark does. `session` is called only if `path` is a URL.
    """
    local = path.removeprefix("file://") if path.startswith("file:///") else path
    if "://" in local:
        files = _remote(session(), local)
        if not files:
            raise InputMissing(f"{key}: no file at {path}. {_WAY_OUT}")
        return files
    starts = [local] if os.path.exists(local) else sorted(glob.glob(local, recursive=True))
    if not starts:
        matches = "matches no file" if glob.has_magic(local) else "does not exist"
        raise InputMissing(f"{key}: {os.path.abspath(local)} {matches}. {_WAY_OUT}")
    paths = sorted({os.path.abspath(file) for start in starts for file in _walk(start)})
    if not paths:
        raise InputMissing(f"{key}: no file in {os.path.abspath(local)}. {_WAY_OUT}")
    return [_raw_file(path, key) for path in paths]


def identity(files: Iterable[RawFile]) -> str:
    """Return an id of raw files. It hashes names, sizes and modification times, so that contents are not read twice."""
    return digest([astuple(file) for file in files])


def format_of(files: list[RawFile], stated: str, key: str) -> str:
    """Return the format of `files`: `stated`, or if that is "auto" the format that their suffixes name.

    `InputUnreadable` if a suffix names no format, or if they name several.
    """
    if stated != "auto":
        return stated
    by_format = {_suffix_format(file.path): file.path for file in files}
    if None in by_format:
        raise InputUnreadable(
            f"{by_format[None]}: unknown file suffix. Set clean.format to one of csv, tsv, jsonl, parquet"
        )
    if len(by_format) > 1:
        raise InputUnreadable(
            f"{key} holds files of several formats ({', '.join(sorted(by_format.values()))}). "
            "Use a glob that matches one format"
        )
    return str(next(iter(by_format)))


def for_spark(path: str) -> str:
    """Return `path` with escaped glob characters, so that Spark reads exactly this file."""
    return re.sub(r"([{}\[\]*?\\])", r"\\\1", path)


def _suffix_format(path: str) -> str | None:
    suffixes = [s for s in os.path.basename(path).lower().split(".")[1:] if s not in _COMPRESSED]
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _raw_file(path: str, key: str) -> RawFile:
    try:
        state = os.stat(path)
    except OSError as error:
        raise InputUnreadable(
            f"{key}: {path} cannot be read: {error.strerror}. Repair it or remove it from the input"
        ) from error
    return RawFile(path, state.st_size, state.st_mtime_ns)


def _unreadable(error: OSError) -> None:
    raise InputUnreadable(
        f"{error.filename} cannot be listed: {error.strerror}. Change its permissions or remove it from the input"
    ) from error


def _walk(start: str) -> Iterator[str]:
    if not os.path.isdir(start):
        yield start
        return
    for folder, folders, names in os.walk(start, followlinks=True, onerror=_unreadable):
        folders[:] = [name for name in folders if _is_visible(name)]
        yield from (os.path.join(folder, name) for name in names if _is_visible(name))


def _is_visible(name: str) -> bool:
    # date=… folders may not begin with '_', but columns like _day=… may (Spark's own rule)
    return not name.startswith(".") and (not name.startswith("_") or "=" in name)


def _remote(spark: SparkSession, url: str) -> list[RawFile]:
    """Return the files under a Hadoop URL or glob. Hadoop's client lists them, because it has the credentials."""
    assert spark._jvm is not None
    start = spark._jvm.org.apache.hadoop.fs.Path(url)
    system = start.getFileSystem(spark._jsc.hadoopConfiguration())
    root = Path(start.toUri().getPath()).parts
    files = []
    for match in system.globStatus(start) or []:
        listing = system.listFiles(match.getPath(), True)
        while listing.hasNext():
            status = listing.next()
            below = Path(status.getPath().toUri().getPath()).parts[len(root) :]
            if all(_is_visible(name) for name in below):
                files.append(RawFile(status.getPath().toString(), status.getLen(), status.getModificationTime()))
    return sorted(files, key=lambda file: file.path)
