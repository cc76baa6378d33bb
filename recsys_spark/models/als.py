"""Matrix factorisation for implicit feedback as an item model.

`stages/baselines/als.py` alternates `solve_rows` between users and items; `FactorModel.encode` is one more half-step, for users it may never
have seen.

Shapes:  B users of a batch · I items counting the padding item 0 · C candidates a user · F factors
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recsys_spark.models import explanations
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.models.ragged import cuts
from recsys_spark.models.ridge import ENTRIES, Objective, System, rotated, solve_rows
from recsys_spark.models.sums import check_items


class FactorModel(InnerProductModel):
    """score(u, i) = x_u . y_i, x_u the minimiser of the objective for the user's history with the items held fixed.

    arrays: `items` float32 [I, F] · `gram` float32 [F, F] = items^T items.
    parameters: the four of `Objective`.
    """

    kind = "als"

    @cached_property
    def system(self) -> System:
        """What all users' systems have in common."""
        objective = Objective(**{name: self.parameters[name] for name in Objective.__dataclass_fields__})
        return System.of(objective, self.arrays["gram"])

    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [B, F]: the users' vectors, zero without history."""
        return solve_rows(histories.indptr, histories.items, histories.weights, self.arrays["items"], self.system)[0]

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The history item j of the largest term of x_u . y_i = sum over j of w_j y_j^T A_u^-1 y_i, A_u the matrix of the user's system and w_j
        the confidences (Hu, Koren and Volinsky, ICDM 2008, section 5). One factorisation a user, in float64, and one solution an item."""
        check_items(items, self.n_items)
        found = np.zeros(items.shape, np.int32)
        for first, last in cuts(histories.lengths() + items.shape[1], ENTRIES):
            self._reasons(histories.rows(first, last), items[first:last], found[first:last])
        return found

    def _reasons(self, histories: Histories, items: np.ndarray, found: np.ndarray) -> None:
        """Fill `found`, which is zero."""
        needed = np.concatenate([histories.items, items.ravel()])
        at, local = rotated(needed, self.vectors, self.system)
        explanations.of_systems(
            histories.indptr,
            histories.items,
            at[: len(histories.items)],
            self.system.objective.confidences(histories.weights),
            self.system.objective.ridge(np.maximum(histories.lengths(), 1)),
            self.system.spectrum.astype(np.float64),
            local,
            at[len(histories.items) :].reshape(items.shape),
            items,
            found,
        )
