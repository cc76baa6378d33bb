"""One training worker, as launch.py starts it.

    python -m recsys_spark.stages.train --job job.json --of PID

What a worker imports stays until it ends. Python's collector, which would look at all of it several times over meanwhile, rests until it is there: a fifth
of the time that the imports take.
"""

from __future__ import annotations

import gc


def main() -> None:
    gc.disable()
    from recsys_spark.stages.train import workers

    gc.freeze()
    gc.enable()
    workers.main()


if __name__ == "__main__":
    main()
