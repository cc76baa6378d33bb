"""Spark tasks over ranges of rows, and the arrays that they write: each task leaves a part file, the driver joins them.

A part is a raw array without a header. It gets its name by a rename, so a task that runs twice leaves a whole file.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, TypeVar
from zipimport import zipimporter

import numpy as np
from pyspark import SparkContext

_CHUNK = 1 << 20
"""Numbers of a part that the driver reads at a time: 4 MiB of float32."""
Rows = tuple[int, int]
"""A range of rows: (start, stop)."""
Result = TypeVar("Result")


def even_ranges(degrees: np.ndarray, count: int) -> list[Rows]:
    """Return at most `count` consecutive ranges (start, stop) of all rows with about equal sums of `degrees`."""
    ends = np.cumsum(degrees)
    inner = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count)
    edges = np.unique(np.concatenate([[0], inner, [len(ends)]])).tolist()
    return list(pairwise(edges))


def run_tasks(spark: SparkContext, ranges: Sequence[Rows], work: Callable[[Rows], Result]) -> list[Result]:
    """Return `work` of each range, in order. Each range is a Spark task."""
    return spark.parallelize(ranges, len(ranges)).map(partial(_run_task, work)).collect()


def _run_task(work: Callable[[Rows], Result], rows: Rows) -> Result:
    result = work(rows)
    forget_archives()
    return result


def forget_archives() -> None:
    """Remove zip archives from Python's import cache, for the next task of this Python worker.

    Spark invalidates the import caches before every task. Python then reads the directories of all cached archives,
    among them Spark's JAR, which takes 0.1 s. ALS and SVD have dozens of short tasks, and this halves their time. If a
    later import needs an archive, Python opens it again.
    """
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[path]


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write. It appears under its name only when it is complete."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "wb") as file:
        yield file
    os.replace(temporary, path)


def part_path(folder: Path, name: str, start: int) -> Path:
    """Return the path of the part of the array `name` that begins with the row `start`."""
    return folder / f"{name}-{start}"


def join(
    folder: Path,
    name: str,
    starts: Sequence[int],
    dtype: type[np.generic],
    columns: int | None = None,
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> np.ndarray:
    """Join the parts of the array `name` into `<name>.npy`, delete them, and return the array, memory-mapped.

    `columns` is the length of a row, None for an array of one axis. `transform` changes some rows at a time and keeps
    their type and shape.
    """
    kind, path = np.dtype(dtype), folder / f"{name}.npy"
    parts = [part_path(folder, name, start) for start in starts]
    row = () if columns is None else (columns,)
    length = sum(part.stat().st_size for part in parts) // (kind.itemsize * (columns or 1))
    with whole_file(path) as joined:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (length, *row)}
        np.lib.format.write_array_header_1_0(joined, header)
        for part in parts:
            with open(part, "rb") as file:
                while len(numbers := np.fromfile(file, kind, _CHUNK - _CHUNK % (columns or 1))):
                    joined.write(np.ascontiguousarray(transform(numbers.reshape(-1, *row))))
            part.unlink()
    return load(path)


def load(path: Path) -> np.ndarray:
    """Return the array of an `.npy` file, memory-mapped, as a plain array that numba and slices take quickly."""
    return np.load(path, mmap_mode="r").view(np.ndarray)
