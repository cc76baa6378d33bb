"""Starts Spark's Python workers: pyspark's daemon, with the modules that tasks need imported before it forks.

`spark.python.daemon.module` in session.py names this module. Workers that import numpy, numba or torch themselves start
seconds later, each of them, in every stage. On two cores the demo's night takes a fifteenth longer without this module.
A module that starts threads when it is imported must not be in the list, because a fork does not copy threads.
"""

import importlib
import os

from pyspark import daemon

PRELOAD = "RECSYS_SPARK_PRELOAD"
"""Environment variable with more modules, separated by spaces."""
_MODULES = ("numpy", "numba", "pandas", "pyarrow.dataset", "pyspark.sql.pandas.serializers")


def main() -> None:
    for name in (*_MODULES, *os.environ.get(PRELOAD, "").split()):
        importlib.import_module(name)
    daemon.manager()


if __name__ == "__main__":
    main()
