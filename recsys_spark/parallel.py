"""Independent work at once: while Spark plans one query on one core, tasks of another run on the rest, and what is needed later is done ahead."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Thread
from typing import Any


def together(*works: Callable[[], Any]) -> list[Any]:
    """What `works` return, each run on a thread of its own. All of them end, then the fault of the first that has one is raised."""
    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(work) for work in works]
    return [work.result() for work in running]


def ahead(work: Callable[[], Any], name: str) -> None:
    """Run `work` beside all else, on a thread `name` that ends with the process: what is needed later and may as well be there by then. Its faults are
    not told: whoever needs what it has not done does it, and is told."""

    def run() -> None:
        with suppress(Exception):
            work()

    Thread(target=run, name=name, daemon=True).start()
