"""Items that nobody is shown: blocked by the operator, withdrawn, or not in the items table."""

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
class Exclusions:
    """banned bool [I] by item_idx; `counts` says why, for the manifest (an item may count twice)."""

    banned: np.ndarray
    counts: dict[str, int]


def exhausted(histories: Histories, banned: np.ndarray) -> np.ndarray:
    """bool [B]: users who have seen every item that is not banned, so that there is nothing left to show them."""
    showable = np.append(0, np.cumsum(~banned[histories.items]))
    seen = showable[histories.indptr[1:]] - showable[histories.indptr[:-1]]
    return np.asarray(seen == np.count_nonzero(~banned))


def exclusions(items: pa.Table, n_items: int, blocked: list[str]) -> Exclusions:
    """What is banned of the items 0 … n_items - 1. `items` needs item_idx, item_id and withdrawn; `blocked` are external ids."""
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
        log.warning("score.blocked_items: %d of %d ids are no items of tonight", unknown, len(set(blocked)))
    counts = {
        "withdrawn": int(withdrawn.sum()),
        "blocked": int(named.sum()),
        "blocked_unknown": unknown,
        "unlisted": unlisted,
    }
    return Exclusions(banned, counts)


def read_blocked(path: str | None) -> list[str]:
    """External item ids of the file, one a line, blank lines left out; `InputMissing` when it is not there."""
    if path is None:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputMissing(f"score.blocked_items: {path} does not exist; mend the path or set it to null") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnreadable(f"score.blocked_items: {path} cannot be read as UTF-8 text: {error}") from error
    return [line.strip() for line in lines if line.strip()]
