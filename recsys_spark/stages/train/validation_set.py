"""The validation set of model selection: users with their history in the train fold and their held-out items.

Training stops early by it, `recsys tune` compares models on it. No torch.

Shapes:  V users
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.columns import AS_OF, ITEM_IDX, USER_IDX, VALID
from recsys_spark.hashing import hash64
from recsys_spark.models.histories import Histories
from recsys_spark.storage import tables


@dataclass(frozen=True)
class ValidationSet:
    """Histories of V users, and their held-out items: indptr int64 [V + 1], items int32. No user lacks either."""

    histories: Histories
    indptr: np.ndarray
    items: np.ndarray

    def users(self, start: int, stop: int) -> ValidationSet:
        """Return the users start:stop."""
        indptr = self.indptr[start : stop + 1]
        return ValidationSet(self.histories.rows(start, stop), indptr - indptr[0], self.items[indptr[0] : indptr[-1]])


def read_validation_set(features: Path, max_users: int, rank: int = 0, size: int = 1) -> ValidationSet:
    """Return part `rank` of `size` of at most `max_users` validation users, chosen by hash, in order of user_idx."""
    of_validation = pc.field(AS_OF) == VALID
    table = tables.read_arrow(features / "positives", "positives", [USER_IDX], of_validation)
    users = table.column(USER_IDX).to_numpy()
    chosen = users[np.argsort(hash64(users), kind="stable")][:max_users][rank::size]
    of_chosen = of_validation & pc.field(USER_IDX).isin(pa.array(chosen))
    histories = tables.read_arrow(features / "histories", "histories", filter=of_chosen).sort_by(USER_IDX)
    positives = tables.read_arrow(features / "positives", "positives", filter=of_chosen).sort_by(USER_IDX)
    filled = pc.list_value_length(histories.column(ITEM_IDX)).to_numpy() > 0
    histories = histories.filter(pa.array(filled)).combine_chunks()
    positives = positives.filter(pc.is_in(positives.column(USER_IDX), histories.column(USER_IDX))).combine_chunks()
    if not positives.num_rows:
        return ValidationSet(Histories.of([]), np.zeros(1, np.int64), np.zeros(0, np.int32))
    lists = pa.concat_arrays(positives.column(ITEM_IDX).chunks)
    indptr = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())]).astype(np.int64)
    return ValidationSet(Histories.from_arrow(histories), indptr, np.asarray(lists.flatten()))
