"""An item model from outside the package: its class, its config section, its fit and its registry entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_spark.config.baselines import Baselines
from recsys_spark.config.section import Count, Section
from recsys_spark.models.item_knn import ItemTableModel
from recsys_spark.registry import ModelEntry
from recsys_spark.report.labels import ModelLabel
from recsys_spark.stages.baselines.blocks import USERS

NAME = "co_occurrence"


class CoOccurrenceModel(ItemTableModel):
    """score(u, i) = the number of users who share an item of u's history and have i, summed over the history."""

    kind = NAME


class CoOccurrence(Section):
    """Number of users who have both items."""

    min_users: Count = 1
    """Minimum number of common users."""


class OutsideBaselines(Baselines):
    co_occurrence: CoOccurrence = CoOccurrence()


def fit(context: Any, scratch: Any) -> tuple[CoOccurrenceModel, dict[str, Any]]:
    """Fit on `context.pairs` with the settings of `context.section`."""
    n_items = context.pairs.rows["items"]
    together = sp.csr_matrix((n_items, n_items), dtype=np.float32)
    for block in range(context.pairs.blocks):
        rows = context.pairs.block(USERS, block)
        users = sp.csr_matrix(
            (np.ones(len(rows.indices), np.float32), rows.indices, rows.indptr), (len(rows.indptr) - 1, n_items)
        )
        together += users.T @ users
    together.setdiag(0)
    together.data[together.data < context.section.co_occurrence.min_users] = 0
    together.eliminate_zeros()
    together.sort_indices()
    arrays = {"indptr": together.indptr.astype(np.int64), "neighbours": together.indices, "similarities": together.data}
    return CoOccurrenceModel(n_items, {}, arrays), {"co_occurrences": together.nnz}


ENTRY = ModelEntry(
    name=NAME,
    item_model="outside_model:CoOccurrenceModel",
    section=f"baselines.{NAME}",
    fit="outside_model:fit",
    fits_on="pairs",
    label=ModelLabel("Co-occurrence", "#000000", "Recommends items that many users have together with the history."),
)
