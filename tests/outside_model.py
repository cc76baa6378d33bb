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
from recsys_spark.stages.baselines.pairs import USERS

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
    """Fit on the pairs of the context."""
    users = context.pairs.csr(USERS)
    ones = np.ones(len(users.indices), np.float32)
    matrix = sp.csr_matrix((ones, users.indices, users.indptr), (context.pairs.rows[USERS], context.n_items))
    counts = matrix.T @ matrix
    counts.setdiag(0)
    counts.data[counts.data < context.settings.min_users] = 0
    counts.eliminate_zeros()
    counts.sort_indices()
    arrays = {"indptr": counts.indptr.astype(np.int64), "neighbours": counts.indices, "similarities": counts.data}
    return CoOccurrenceModel(context.n_items, {}, arrays), {"co_occurrences": counts.nnz}


ENTRY = ModelEntry(
    name=NAME,
    item_model="outside_model:CoOccurrenceModel",
    section=f"baselines.{NAME}",
    fit="outside_model:fit",
    fits_on="pairs",
    label=ModelLabel("Co-occurrence", "#000000", "Recommends items that many users have together with the history."),
)
