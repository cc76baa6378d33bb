"""No process outlives the one it works for.

`kill -9` gives a process no chance to take its children down. A driver that lost spark-submit, or a trainer that lost its driver,
would go on writing into a run that the next job has taken over. So each of them watches the process it works for.
"""

from __future__ import annotations

import os
import select
import threading


def end_with(pid: int) -> None:
    """End this process at once, without clean-up, as soon as process `pid` is gone. Returns immediately.

    `pid` need not be the parent: a worker under horovodrun belongs to the job that started horovodrun.
    """
    try:
        # a descriptor of the process, which no successor with the same number can take
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
