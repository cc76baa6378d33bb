"""Computes item similarity with scipy in one process: the formula of item_knn.py, with 1,000 neighbours of each item.

    scipy_similarity.py FOLDER [--out neighbours.npz]

Prints the seconds. FOLDER holds `indptr` and `indices` (CSR by user) as .npy files. The time does not include reading
them and making the matrix.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

USER, SOURCE, TARGET, POWER, NEIGHBOURS = 0.5, 0.6, 0.4, 0.7, 1000
ROWS = 4096
"""Number of items of a product, whose result takes about 50 MB."""


def neighbours(pairs: sp.csr_matrix) -> sp.csr_matrix:
    users, items = np.maximum(np.diff(pairs.indptr), 1.0), np.maximum(np.bincount(pairs.indices), 1.0)
    weighted = sp.diags_array(users**-USER) @ pairs
    source = (weighted @ sp.diags_array(items**-SOURCE)).T.tocsr()
    target = (weighted @ sp.diags_array(items**-TARGET)).tocsr()
    parts = [largest(source[lo : lo + ROWS] @ target, lo) for lo in range(0, len(items), ROWS)]
    return sp.vstack(parts, format="csr")


def largest(block: sp.csr_matrix, first: int) -> sp.csr_matrix:
    block.data[block.indices == np.repeat(np.arange(first, first + block.shape[0]), np.diff(block.indptr))] = 0
    keep = block.data > 0
    for row in np.flatnonzero(np.diff(block.indptr) > NEIGHBOURS):
        start, stop = block.indptr[row : row + 2]
        values = block.data[start:stop]
        keep[start:stop] &= values >= np.partition(values, -NEIGHBOURS)[-NEIGHBOURS]
    block.data[~keep] = 0
    block.eliminate_zeros()
    block.data **= POWER
    return block.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    indptr, indices = np.load(arguments.folder / "indptr.npy"), np.load(arguments.folder / "indices.npy")
    pairs = sp.csr_matrix((np.ones(len(indices)), indices, indptr))
    clock = time.perf_counter()
    table = neighbours(pairs)
    seconds = time.perf_counter() - clock
    if arguments.out:
        sp.save_npz(arguments.out, table, compressed=False)
    print(json.dumps({"seconds": seconds, "neighbours": int(table.nnz)}))


if __name__ == "__main__":
    main()
