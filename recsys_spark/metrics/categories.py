"""The categories of all items in compressed rows: read from the items table once, used by all who compare categories.

Diversity and category caps (rules), the ranker's features (fusion) and intra-list diversity (metrics) read them.

Shapes:  I items counting the padding item 0 · K category entries of all items · C categories
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from recsys_spark.columns import CATEGORIES, ITEM_IDX


@dataclass(frozen=True)
class Categories:
    """The categories of item i are `codes[indptr[i]:indptr[i + 1]]`, ascending and each once.

    indptr int64 [I + 1] · codes int32 [K] · `count` is C.
    """

    indptr: np.ndarray
    codes: np.ndarray
    count: int

    @classmethod
    def none(cls, n_items: int) -> Categories:
        """Return categories of `n_items` items (I) that have none."""
        return cls(np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32), 0)

    @classmethod
    def of(cls, items: pa.Table, n_items: int) -> Categories:
        """Return the categories in the columns item_idx and categories of `items`, for the indices below `n_items` (I).

        An index without a row has no categories.
        """
        column = items[CATEGORIES].combine_chunks()
        idx = np.repeat(items[ITEM_IDX].to_numpy(), column.value_lengths().fill_null(0).to_numpy())
        names = column.flatten().dictionary_encode()
        # codes follow the sorted names, so that they do not depend on the order of the rows
        codes = np.argsort(pc.sort_indices(names.dictionary).to_numpy())[names.indices.to_numpy()]
        pairs = np.unique(np.stack([idx, codes], axis=1).astype(np.int64), axis=0)
        pairs = pairs[pairs[:, 0] < n_items]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=n_items))])
        return cls(indptr.astype(np.int64), pairs[:, 1].astype(np.int32), len(names.dictionary))

    @property
    def version(self) -> str:
        """A hash of the categories, whatever their names."""
        return hashlib.sha256(self.indptr.tobytes() + self.codes.tobytes()).hexdigest()

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """float32 [I, C], 1 where the item has the category."""
        ones, shape = np.ones(len(self.codes), np.float32), (len(self.indptr) - 1, max(self.count, 1))
        return sp.csr_matrix((ones, self.codes, self.indptr), shape=shape)
