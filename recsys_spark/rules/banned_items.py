"""Items that no list may hold: blocked by the operator, withdrawn, or not in the items table."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.columns import ITEM_ID, ITEM_IDX, PADDING_ITEM, WITHDRAWN
from recsys_spark.errors import InputMissing, InputUnreadable
from recsys_spark.models.histories import Histories

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BannedItems:
    """`banned` bool [I] by item_idx, and `counts` by cause for the manifest. An item may have several causes."""

    banned: np.ndarray
    counts: dict[str, int]


def banned_items(items: pa.Table, n_items: int, blocked: list[str]) -> BannedItems:
    """Return which of the items 0 … n_items - 1 (I) are banned. The padding item 0 always is.

    `items` has the columns item_idx, item_id and withdrawn of the items table. `blocked` are external ids.
    """
    idx = items.column(ITEM_IDX).to_numpy()
    inside = idx < n_items
    banned = np.ones(n_items, bool)
    banned[idx[inside]] = False
    unlisted = int(banned[PADDING_ITEM + 1 :].sum())
    withdrawn = items.column(WITHDRAWN).to_numpy()
    named = pc.is_in(items.column(ITEM_ID), value_set=pa.array(blocked, pa.string())).to_numpy()
    banned[idx[inside & (withdrawn | named)]] = True
    unknown = len(set(blocked)) - int(named.sum())
    if unknown:
        log.warning("score.blocked_items: %d of %d ids are not in the items table", unknown, len(set(blocked)))
    counts = {
        "withdrawn": int(withdrawn.sum()),
        "blocked": int(named.sum()),
        "blocked_unknown": unknown,
        "unlisted": unlisted,
    }
    return BannedItems(banned, counts)


def exhausted(histories: Histories, banned: np.ndarray) -> np.ndarray:
    """Return bool [B]: whether a user's history holds every item that is not `banned`, so that no list is possible."""
    allowed = np.append(0, np.cumsum(~banned[histories.items]))
    return np.asarray(np.diff(allowed[histories.indptr]) == np.count_nonzero(~banned))


def read_blocked(path: str | None) -> list[str]:
    """Return the external item ids in the text file `path`, one a line, without blank lines; none if `path` is None.

    Raises `InputMissing` when there is no file and `InputUnreadable` when it is not UTF-8 text.
    """
    if path is None:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputMissing(f"score.blocked_items: {path} does not exist. Correct the path or set it to null") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnreadable(f"score.blocked_items: {path} cannot be read as UTF-8 text: {error}") from error
    return [line.strip() for line in lines if line.strip()]
