"""No process outlives the one it works for.

`kill -9` gives a process no chance to take its children down. A driver that lost spark-submit, or a trainer that lost its driver,
would go on writing into a run that the next job has taken over. So each of them watches its parent.
"""

from __future__ import annotations

import os
import threading
import time

INTERVAL_S = 0.5


def end_with_parent() -> None:
    """End this process at once, without clean-up, as soon as its parent is gone. Returns immediately."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
