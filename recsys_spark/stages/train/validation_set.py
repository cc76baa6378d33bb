"""The valid users that models are compared on while they are chosen: histories of the train fold, and what is held out of it. No torch.

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
class Held:
    """Histories of V users and, ragged like them, the items held out: indptr int64 [V+1], items int32. Every user has some of each."""

    histories: Histories
    indptr: np.ndarray
    items: np.ndarray


def read_held(features: Path, most: int, rank: int = 0, size: int = 1) -> Held:
    """Part `rank` of `size` of the valid users: at most `most` in all, those of smallest hash who have both history and positives."""
    users = (
        tables.read_arrow(features / "positives", "positives", [USER_IDX], pc.field(AS_OF) == VALID)
        .column(USER_IDX)
        .to_numpy()
    )
    chosen = users[np.argsort(hash64(users), kind="stable")][:most][rank::size]
    wanted = (pc.field(AS_OF) == VALID) & pc.field(USER_IDX).isin(pa.array(chosen))
    histories = tables.read_arrow(features / "histories", "histories", filter=wanted).sort_by(USER_IDX)
    positives = tables.read_arrow(features / "positives", "positives", filter=wanted).sort_by(USER_IDX)
    filled = pc.list_value_length(histories.column(ITEM_IDX)).to_numpy() > 0
    known = histories.filter(pa.array(filled)).combine_chunks()
    held = positives.filter(pc.is_in(positives.column(USER_IDX), known.column(USER_IDX))).combine_chunks()
    lists = pa.concat_arrays(held.column(ITEM_IDX).chunks) if held.num_rows else pa.array([], pa.list_(pa.int32()))
    return Held(
        Histories.from_arrow(known) if known.num_rows else Histories.of([]),
        np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())]).astype(np.int64),
        np.asarray(lists.flatten()),
    )
