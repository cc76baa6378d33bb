"""Item-item cosine over Spark, exact: each task compares one block of items with all others, in chunks of bounded memory.

Shapes:  I items counting the padding item 0 · J items of a chunk · N neighbours kept
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from pyspark import SparkContext

from recsys_spark.baselines.blocks import ITEMS, USERS, Csr, Pairs, Side, save_array
from recsys_spark.item_models.neighbours import NeighbourModel
from recsys_spark.item_models.ragged import cuts, ranges

log = logging.getLogger(__name__)

PRODUCTS = 1 << 21
"""Products of two pairs that a task has at a time; each takes some 50 bytes while it lasts."""
_PARTS = ("indptr", "neighbours", "similarities")


@dataclass(frozen=True)
class Similarity:
    """How alike the history item j and the candidate i are, with the n users U they have in common and degrees d:

        s[j, i] = n / (n + shrinkage) * (sum over U of d_u^(-2 user_power) * d_j^-source_power * d_i^-target_power)^similarity_power

    Plain cosine has user_power 0, source and target power 0.5, similarity_power 1 and no shrinkage.
    """

    user_power: float
    source_power: float
    target_power: float
    similarity_power: float
    shrinkage: float

    def of(
        self, shared: np.ndarray, common: np.ndarray | None, source: np.ndarray, target: np.ndarray
    ) -> np.ndarray:
        """float32: similarities from the sums over U, n (needed with shrinkage only), d_j and d_i."""
        found = (shared * source**-self.source_power * target**-self.target_power) ** self.similarity_power
        if common is not None:
            found *= common / (common + self.shrinkage)
        return found.astype(np.float32)


def fit(
    spark: SparkContext, pairs: Pairs, folder: Path, *, neighbours: int, similarity: Similarity
) -> NeighbourModel:
    """The model: of each item the `neighbours` most similar others, ties by item. `folder` takes the blocks of the table."""
    folder.mkdir(parents=True)
    compare = partial(compare_block, pairs, folder, similarity, neighbours)
    kept = spark.parallelize(range(pairs.blocks), pairs.blocks).map(compare).collect()
    log.info("item_cosine: %d neighbours of %d items", sum(kept), pairs.active[ITEMS])
    return NeighbourModel(pairs.rows[ITEMS], {}, _join(pairs, folder, sum(kept)))


def compare_block(pairs: Pairs, folder: Path, similarity: Similarity, neighbours: int, block: int) -> int:
    """One task: the neighbours of the items of one block, into files; returns how many they are."""
    items, users = pairs.block(ITEMS, block), pairs.side(USERS)
    degrees = np.maximum(pairs.item_degrees(), 1).astype(np.float64)
    lengths, columns, values = [np.zeros(1, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for lo, hi in _chunks(items, users):
        ids = np.arange(lo, hi) * pairs.blocks + block
        shared = overlaps(items, users, lo, hi, len(degrees), similarity.user_power)
        common = overlaps(items, users, lo, hi, len(degrees), 0).data if similarity.shrinkage else None
        source = np.repeat(ids, np.diff(shared.indptr))
        shared.data = similarity.of(shared.data, common, degrees[source], degrees[shared.indices])
        shared.data[shared.indices == source] = 0
        keep = largest(shared, neighbours)
        lengths.append(np.bincount(source[keep] // pairs.blocks - lo, minlength=hi - lo))
        columns.append(shared.indices[keep].astype(np.int32))
        values.append(shared.data[keep])
    arrays = (np.cumsum(np.concatenate(lengths)), np.concatenate(columns), np.concatenate(values))
    for part, array in zip(_PARTS, arrays):
        save_array(_path(folder, block, part), array)
    return len(arrays[1])


def overlaps(items: Csr, users: Side, lo: int, hi: int, n_items: int, user_power: float) -> sp.csr_matrix:
    """float64 [J, I], columns ascending: of items lo:hi of a block with every item, the sum of d_u^(-2 user_power) over the users
    they have in common."""
    ids, column = np.unique(items.indices[items.indptr[lo] : items.indptr[hi]], return_inverse=True)
    degrees = users.degrees(ids)
    indptr = items.indptr[lo : hi + 1] - items.indptr[lo]
    buyers = sp.csr_matrix((degrees[column] ** (-2.0 * user_power), column, indptr), (hi - lo, len(ids)))
    total = None
    for first, last in cuts(degrees, PRODUCTS):  # one cut, but for an item with very many users
        indptr, indices = users.take(ids[first:last])
        bought = sp.csr_matrix((np.ones(len(indices)), indices, indptr), (last - first, n_items))
        part = buyers[:, first:last] @ bought
        total = part if total is None else total + part
    total = sp.csr_matrix((hi - lo, n_items)) if total is None else total
    total.sort_indices()
    return total


def largest(table: sp.csr_matrix, count: int) -> np.ndarray:
    """int64: positions of the `count` largest entries above zero of each row, ties by column; columns must ascend within rows."""
    keep = table.data > 0
    for row in np.flatnonzero(np.diff(table.indptr) > count):
        part = slice(table.indptr[row], table.indptr[row + 1])
        values = table.data[part]
        least = np.partition(values, len(values) - count)[len(values) - count]
        kept, ties = values > least, np.flatnonzero(values == least)
        kept[ties[: count - np.count_nonzero(kept)]] = True
        keep[part] &= kept
    return np.flatnonzero(keep)


def _chunks(items: Csr, users: Side) -> Iterator[tuple[int, int]]:
    """Consecutive items of the block whose users have PRODUCTS pairs together at most."""
    sums = [np.zeros(1, np.int64)]
    for lo in range(0, len(items.indices), PRODUCTS):
        sums.append(users.degrees(items.indices[lo : lo + PRODUCTS]))
    return cuts(np.diff(np.cumsum(np.concatenate(sums))[items.indptr]), PRODUCTS)


def _join(pairs: Pairs, folder: Path, total: int) -> dict[str, np.ndarray]:
    """The blocks' rows in the items' order, in files: the driver holds no more than a block of them."""
    lengths = np.zeros(pairs.rows[ITEMS], np.int64)
    for block in range(pairs.blocks):
        lengths[block :: pairs.blocks] = np.diff(np.load(_path(folder, block, "indptr")))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    arrays = {"indptr": indptr}
    for part, dtype in (("neighbours", np.int32), ("similarities", np.float32)):
        arrays[part] = (
            np.lib.format.open_memmap(folder / f"{part}.npy", "w+", dtype, (total,))
            if total
            else np.empty(0, dtype)
        )
        for block in range(pairs.blocks):
            rows = slice(block, None, pairs.blocks)
            arrays[part][ranges(indptr[:-1][rows], lengths[rows])] = np.load(_path(folder, block, part))
    return arrays


def _path(folder: Path, block: int, part: str) -> Path:
    return folder / f"{part}-{block}.npy"
