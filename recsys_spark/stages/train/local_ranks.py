"""Runs a command as Horovod ranks on this machine: python -m recsys_spark.stages.train.local_ranks RANKS COMMAND ...

This is `horovodrun --gloo -np RANKS COMMAND` without its checks. One of them imports torch only to ask for Gloo, which
takes 4 s in every training. Without Gloo the ranks fail and say so.
"""

from __future__ import annotations

import os
import sys

from horovod.runner.common.util import secret, timeout
from horovod.runner.common.util.settings import Settings
from horovod.runner.gloo_run import gloo_run

START_TIMEOUT_S = 60


def main() -> None:
    ranks, command = int(sys.argv[1]), sys.argv[2:]
    settings = Settings(
        num_proc=ranks,
        hosts=f"localhost:{ranks}",
        verbose=0,
        key=secret.make_secret_key(),
        start_timeout=timeout.Timeout(START_TIMEOUT_S, "{activity} took too long"),
    )
    gloo_run(settings, {"lo"}, dict(os.environ), "127.0.0.1", command)


if __name__ == "__main__":
    main()
