"""The fits without Spark: blocks written here, tasks run one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_spark.models.item_knn import ItemTableModel
from recsys_spark.stages.baselines.blocks import ENTRY, ITEMS, USERS, Pairs, write_block


class Tasks:
    """What the fits need of a SparkContext."""

    defaultParallelism = 2

    def __init__(self, inputs: Iterable[Any] = (), function: Callable[[Any], Any] = lambda value: value):
        self.inputs, self.function = inputs, function

    def parallelize(self, inputs: Iterable[Any], _slices: int) -> Tasks:
        return Tasks(inputs)

    def map(self, function: Callable[[Any], Any]) -> Tasks:
        return Tasks(self.inputs, function)

    def collect(self) -> list[Any]:
        return [self.function(value) for value in self.inputs]


def put_pairs(folder: Path, matrix: sp.csr_matrix, blocks: int) -> Pairs:
    """The blocks of a user × item matrix of weights, as the Spark job writes them."""
    folder.mkdir(parents=True)
    cells = matrix.tocoo()
    rows = {USERS: matrix.shape[0], ITEMS: matrix.shape[1]}
    sides = {USERS: (cells.row, cells.col), ITEMS: (cells.col, cells.row)}
    active = dict.fromkeys(sides, 0)
    for side, (row, column) in sides.items():
        for block in range(blocks):
            mine = np.flatnonzero(row % blocks == block)[::-1]
            entries = np.empty(len(mine), ENTRY)
            entries["row"], entries["column"] = row[mine] // blocks, column[mine]
            entries["weight"] = cells.data[mine]
            height = len(range(block, rows[side], blocks))
            active[side] += write_block(folder, side, block, entries, height)
    return Pairs(folder, blocks, rows, active, cells.nnz)


def random_matrix(n_users: int = 50, n_items: int = 30, share: float = 0.2, seed: int = 1) -> sp.csr_matrix:
    """Weights of pairs; item 0 has none, nor have user 3 and item 5; user 4 and item 6 have everything else."""
    rng = np.random.default_rng(seed)
    dense = rng.uniform(0.5, 3, (n_users, n_items)) * (rng.random((n_users, n_items)) < share)
    dense[4], dense[:, 6] = 1.0, 2.0
    dense[3] = dense[:, 5] = dense[:, 0] = 0
    return sp.csr_matrix(dense.astype(np.float32))


def checkerboard_matrix(pairs: list[tuple[int, int]], n_items: int) -> sp.csr_matrix:
    users, items = np.array(pairs).T
    return sp.csr_matrix((np.ones(len(pairs), np.float32), (users, items)), (users.max() + 1, n_items + 1))


def dense(model: ItemTableModel) -> np.ndarray:
    """[history item, candidate]: the table, item by item."""
    parts = (model.arrays[name] for name in ("similarities", "neighbours", "indptr"))
    return sp.csr_matrix(tuple(parts), (model.n_items, model.n_items)).toarray()
