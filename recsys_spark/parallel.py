"""Runs independent work in parallel: while Spark plans one query on one core, tasks of another use the other cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def together(*works: Callable[[], Any]) -> list[Any]:
    """What `works` return, each run on a thread of its own. All of them end, then the fault of the first that has one is raised."""
    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(work) for work in works]
    return [work.result() for work in running]
