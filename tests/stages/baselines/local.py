"""Fits without Spark: pairs are written here, and tasks run one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemTableModel
from recsys_spark.stages.baselines.pairs import ENTRY, ITEMS, USERS, Pairs, join_pairs, write_part


class Tasks:
    """The part of a SparkContext that the fits use."""

    defaultParallelism = 2

    def __init__(self, inputs: Iterable[Any] = (), function: Callable[[Any], Any] = lambda value: value):
        self.inputs, self.function = inputs, function

    def parallelize(self, inputs: Iterable[Any], _slices: int) -> Tasks:
        return Tasks(inputs)

    def map(self, function: Callable[[Any], Any]) -> Tasks:
        return Tasks(self.inputs, function)

    def collect(self) -> list[Any]:
        return [self.function(value) for value in self.inputs]


def put_pairs(folder: Path, matrix: sp.csr_matrix, parts: int) -> Pairs:
    """Write the pairs of a user × item matrix of weights as the Spark job does, without parts that hold no pair."""
    folder.mkdir(parents=True)
    cells = matrix.tocoo()
    rows = {USERS: matrix.shape[0], ITEMS: matrix.shape[1]}
    written = []
    for number, (row, column) in enumerate(((cells.row, cells.col), (cells.col, cells.row))):
        entries = np.empty(cells.nnz, ENTRY)
        entries["row"], entries["column"], entries["weight"] = row, column, cells.data
        for part in np.unique(row.astype(np.int64) * parts // matrix.shape[number]):
            own = entries[row.astype(np.int64) * parts // matrix.shape[number] == part]
            written.append(int(part) + number * parts)
            write_part(folder, written[-1], own[::-1], parts, rows)
    return join_pairs(folder, written[::-1], parts, rows)


def random_matrix(n_users: int = 50, n_items: int = 30, share: float = 0.2, seed: int = 1) -> sp.csr_matrix:
    """Return random weights. User 3 and the items 0 and 5 have no pairs, user 4 and item 6 have all others."""
    rng = np.random.default_rng(seed)
    dense = rng.uniform(0.5, 3, (n_users, n_items)) * (rng.random((n_users, n_items)) < share)
    dense[4], dense[:, 6] = 1.0, 2.0
    dense[3] = dense[:, 5] = dense[:, 0] = 0
    return sp.csr_matrix(dense.astype(np.float32))


def checkerboard_matrix(pairs: list[tuple[int, int]], n_items: int) -> sp.csr_matrix:
    users, items = np.array(pairs).T
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (users, items)), (users.max() + 1, n_items + 1))


def histories_of(matrix: sp.csr_matrix) -> Histories:
    """Return the rows of a user × item matrix as histories."""
    matrix.sort_indices()
    zeros = np.zeros(matrix.nnz, np.int64)
    return Histories(matrix.indptr.astype(np.int64), matrix.indices, zeros, matrix.data, [None] * matrix.shape[0])


def dense(model: ItemTableModel) -> np.ndarray:
    """Return the table [history item, candidate]."""
    parts = (model.arrays[name] for name in ("similarities", "neighbours", "indptr"))
    return sp.csr_matrix(tuple(parts), (model.n_items, model.n_items)).toarray()
