"""Scores with implicit's CosineRecommender in memory: the top 20 of every user without the history.

    implicit_item_topn.py FOLDER [--out ids.npy]    prints the seconds
    implicit_item_topn.py FOLDER --fit              writes 1,000 neighbours of each item as CSR .npy files into FOLDER

Its `recommend` loops over users in Python on one thread. Two processes take half of the users each, so that it uses
both cores. Reading and starting the second process are not timed.
"""

from __future__ import annotations

import argparse
import json
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from implicit.nearest_neighbours import CosineRecommender, NearestNeighboursScorer

PARTS = ("indptr", "indices", "data")
state: tuple[CosineRecommender, sp.csr_matrix]


def read(folder: Path) -> sp.csr_matrix:
    indptr, indices = np.load(folder / "indptr.npy"), np.load(folder / "indices.npy")
    return sp.csr_matrix((np.ones(len(indices), np.float32), indices, indptr))


def fit(folder: Path) -> None:
    model = CosineRecommender(K=1000, num_threads=2)
    model.fit(read(folder), show_progress=False)
    for part in PARTS:
        np.save(folder / f"neighbours_{part}.npy", getattr(model.similarity, part))


def recommend(bounds: tuple[int, int]) -> np.ndarray:
    model, pairs = state
    users = np.arange(*bounds)
    return model.recommend(users, pairs[bounds[0] : bounds[1]], N=20, filter_already_liked_items=True)[0]


def main() -> None:
    global state
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    if arguments.fit:
        return fit(arguments.folder)
    pairs = read(arguments.folder)
    indptr, indices, data = (np.load(arguments.folder / f"neighbours_{part}.npy") for part in PARTS)
    model = CosineRecommender(K=1000)
    model.similarity = sp.csr_matrix((data, indices, indptr), shape=(pairs.shape[1], pairs.shape[1]))
    model.scorer = NearestNeighboursScorer(model.similarity)
    state = model, pairs
    half = pairs.shape[0] // 2
    halves = [(0, half), (half, pairs.shape[0])]
    with get_context("fork").Pool(2) as pool:
        pool.map(recommend, [(0, 2)] * 2, chunksize=1)
        clock = time.perf_counter()
        ids = np.concatenate(pool.map(recommend, halves, chunksize=1))
        seconds = time.perf_counter() - clock
    if arguments.out:
        np.save(arguments.out, ids)
    print(json.dumps({"seconds": seconds, "users": len(ids), "processes": 2}))


if __name__ == "__main__":
    main()
