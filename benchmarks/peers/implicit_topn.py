"""Scores with implicit's `recommend` in memory on two threads: the top 20 of every user without the history.

    implicit_topn.py FOLDER [--users N] [--out ids.npy]    scores the first N users of FOLDER and prints the seconds
    implicit_topn.py FOLDER --fit                          fits item factors on the pairs of FOLDER and saves them

FOLDER holds `indptr`, `indices` (CSR by user), `user_factors` and `item_factors` as .npy files. Reading them and
making the matrix are not timed.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as implicit asks: its own threads each call BLAS

import argparse
import json
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares

FACTORS, ALPHA, REGULARIZATION = 64, 3.0, 1.0


def read(folder: Path, n_items: int) -> sp.csr_matrix:
    indptr, indices = np.load(folder / "indptr.npy"), np.load(folder / "indices.npy")
    ones = np.ones(len(indices), np.float32)
    return sp.csr_matrix((ones, indices, indptr), shape=(len(indptr) - 1, n_items))


def fit(folder: Path) -> None:
    pairs = read(folder, int(np.load(folder / "indices.npy").max()) + 1)
    model = AlternatingLeastSquares(
        FACTORS, alpha=ALPHA, regularization=REGULARIZATION, iterations=10, num_threads=2, random_state=0
    )
    model.fit(pairs, show_progress=False)
    np.save(folder / "item_factors.npy", model.item_factors)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    if arguments.fit:
        return fit(arguments.folder)
    model = AlternatingLeastSquares(FACTORS, num_threads=2)
    model.item_factors = np.load(arguments.folder / "item_factors.npy")
    model.user_factors = np.load(arguments.folder / "user_factors.npy")
    pairs = read(arguments.folder, len(model.item_factors))[: arguments.users]
    users = np.arange(pairs.shape[0])
    clock = time.perf_counter()
    ids, _ = model.recommend(users, pairs, N=20, filter_already_liked_items=True)
    seconds = time.perf_counter() - clock
    if arguments.out:
        np.save(arguments.out, ids)
    print(json.dumps({"seconds": seconds, "users": len(users)}))


if __name__ == "__main__":
    main()
