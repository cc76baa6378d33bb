"""Searches for better settings of single models or of all together, judged on the valid fold, and writes an overlay that the job takes as it is.

    python -m recsys_spark.tune --config conf/demo.yaml --space conf/tune/item_knn.yaml --minutes 10

docs/tuning.md says how to write a space, and what is left in the study's folder.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    try:
        from recsys_spark.tune import command
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        print("error: a search needs Optuna; pip install 'recsys_spark[tune]'", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
