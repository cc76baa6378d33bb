"""The watchdog that ends a process with the process it works for.

`kill -9` gives a process no chance to end its children. A driver without its spark-submit, or a training worker without
its driver, would go on writing into a run that the next job has taken over. So each of them watches its parent.
"""

from __future__ import annotations

import os
import select
import threading


def exit_with(pid: int) -> None:
    """End this process at once, without clean-up, when process `pid` ends. Returns immediately.

    `pid` need not be the parent: between a Horovod rank and its job there is Horovod's launcher.
    """
    try:
        # a descriptor stays with this process, whereas its number may be used again
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=watch, name="parent watchdog", daemon=True).start()
