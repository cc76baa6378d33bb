"""The lock that lets one job at a time work on a run."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from recsys_spark.errors import ConcurrentJob
from recsys_spark.storage.layout import Layout


@contextmanager
def run_lock(layout: Layout) -> Iterator[None]:
    """Hold the lock of the run. `ConcurrentJob` when another process holds it.

    The operating system releases the lock when the process ends, so a killed job leaves none behind.
    """
    with open(layout.lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConcurrentJob(
                f"another job is working on run {layout.run_id!r} ({layout.lock}). Wait for it or give another --run-id"
            ) from None
        yield
