"""What Spark starts on each executor to fork its Python workers from: `spark.python.daemon.module`, set in session.py.

Spark's own daemon, with what every worker of this package needs imported before the fork, so that it is paid for once and not by each worker. Nothing
here may start a thread, which a fork would not carry over: numpy, numba and Arrow start theirs when they first compute, and OpenBLAS, which does so
when it is loaded, starts none where OMP_NUM_THREADS is 1 (Spark sets it to spark.task.cpus) and stops them before a fork where it is more.
"""

from __future__ import annotations

import gc
import importlib
import os
import zipimport

IMPORTS = "RECSYS_SPARK_IMPORTS"
"""Environment variable: names of more modules that the workers of this job need, separated by spaces."""
_WANTED = ("numpy", "numba", "pyarrow.compute", "pyarrow.dataset", "pandas", "pyspark.sql.pandas.serializers")


def read_archives_once() -> None:
    """Let `importlib.invalidate_caches` read a zip archive's directory again only when the archive has changed.

    Spark's workers call it before every task, and reading the directory of pyspark.zip takes a tenth of a second.
    """
    read = zipimport.zipimporter.invalidate_caches
    known: dict[str, tuple[int, int]] = {}

    def invalidate_caches(importer: zipimport.zipimporter) -> None:
        try:
            state = os.stat(importer.archive)
            now = state.st_mtime_ns, state.st_size
        except OSError:
            now = 0, 0
        if known.get(importer.archive) != now:
            read(importer)
            known[importer.archive] = now

    zipimport.zipimporter.invalidate_caches = invalidate_caches  # type: ignore[method-assign]


def main() -> None:
    gc.disable()  # a collection would look at all that is there and find it needed
    from pyspark import daemon

    for name in (*_WANTED, *os.environ.get(IMPORTS, "").split()):
        importlib.import_module(name)
    read_archives_once()
    importlib.invalidate_caches()  # the directories are known before the fork
    # what is there now lives as long as the workers: no collection looks at it again, and its pages stay shared
    gc.collect()
    gc.freeze()
    gc.enable()
    daemon.manager()


if __name__ == "__main__":
    main()
