"""The categories of items as a sparse matrix: what diversity, caps and the ranker know of them. Numpy and Arrow.

Shapes:  I items counting the padding item 0 · K category entries of all items
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.columns import CATEGORIES, ITEM_IDX


@dataclass(frozen=True)
class Categories:
    """Categories of items, CSR rows ascending: indptr int64 [I+1] · codes int32 [K]; `count` different ones."""

    indptr: np.ndarray
    codes: np.ndarray
    count: int

    @property
    def version(self) -> str:
        """Hash: equal versions are equal categories, by whatever names."""
        return hashlib.sha256(self.indptr.tobytes() + self.codes.tobytes()).hexdigest()

    @classmethod
    def none(cls, n_items: int) -> Categories:
        """Of items of which nothing is known."""
        return cls(np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32), 0)

    @classmethod
    def of(cls, items: pa.Table, n_items: int) -> Categories:
        """From the columns item_idx and categories of the table `items`; of an item that it lacks none is known."""
        column = items[CATEGORIES].combine_chunks()
        idx = np.repeat(items[ITEM_IDX].to_numpy(), column.value_lengths().fill_null(0).to_numpy())
        named = column.flatten().dictionary_encode()
        # by name, whatever the order of the rows
        codes = np.argsort(pc.sort_indices(named.dictionary).to_numpy())[named.indices.to_numpy()]
        pairs = np.unique(np.stack([idx, codes], axis=1).astype(np.int64), axis=0)
        pairs = pairs[pairs[:, 0] < n_items]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=n_items))])
        return cls(indptr.astype(np.int64), pairs[:, 1].astype(np.int32), len(named.dictionary))
