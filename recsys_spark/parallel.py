"""Runs independent work in parallel: while Spark plans one query on one core, tasks of another use the other cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_parallel(*functions: Callable[[], Any]) -> list[Any]:
    """Return the results of `functions`, each run on its own thread.

    All of them end first. Then the error of the first function that failed, in their order, is raised.
    """
    with ThreadPoolExecutor(len(functions)) as pool:
        running = [pool.submit(function) for function in functions]
    return [future.result() for future in running]
