"""Fits implicit's AlternatingLeastSquares (C++, conjugate gradients, two threads) on a CSR matrix in memory.

    implicit_als.py TRAIN.npz OUT --factors F --iterations N --regularization L --confidence C

Prints the seconds of `fit` and writes the factors to OUT. C is the confidence of an observed pair. That of all others
is 1.
"""

from __future__ import annotations

import json
import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # implicit recommends it, because it has threads of its own

import numpy as np
import scipy.sparse as sp
from als_arguments import parse
from implicit.cpu.als import AlternatingLeastSquares


def main() -> None:
    a = parse()
    train = sp.load_npz(a.train).tocsr()
    model = AlternatingLeastSquares(
        factors=a.factors,
        iterations=a.iterations,
        regularization=a.regularization,
        alpha=a.confidence,
        num_threads=2,
        random_state=7,
    )
    clock = time.perf_counter()
    model.fit(train, show_progress=False)
    seconds = time.perf_counter() - clock
    np.savez(a.out, users=model.user_factors, items=model.item_factors)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
