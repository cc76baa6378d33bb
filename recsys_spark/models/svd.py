"""A low-pass filter of the graph of users and items as an item model. `stages/baselines/svd.py` finds its vectors.

Shapes:  B users of a batch · T history entries of all of them · I items counting the padding item 0 · F factors
"""

from __future__ import annotations

import numpy as np

from recsys_spark.jit import compiled
from recsys_spark.models import explanations
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.models.sums import check_items


class SpectralModel(InnerProductModel):
    """score(u, i) = d_i^target_power * sum over the items j of u's history and over the factors f of

        d_j^-item_power V[j, f] sigma_f^singular_power V[i, f],

    with V [I, F] the top right singular vectors and sigma their singular values of N = D_U^-user_power R D_I^-item_power, R the matrix of
    the pairs (1 where a user chose an item), D_U and D_I the degrees. How often an item was chosen does not count.

    With all powers 0 these are the scores of PureSVD (Cremonesi, Koren and Turrin, RecSys 2010), r_u V V^T. With user_power, item_power and
    target_power 0.5 and singular_power 0 they are the ideal low-pass filter of GF-CF (Shen et al., "How powerful is graph convolution for
    recommendation?", CIKM 2021), r_u D_I^-1/2 V V^T D_I^1/2; a singular_power above 0 lets the filter fall off smoothly instead.

    arrays: `items` float32 [I, F] = d_i^target_power V · `weights` float64 [I] = d_i^-(item_power + target_power), which turns them into what a
    history adds · `spectrum` float64 [F] = sigma^singular_power. Items without pairs have the zero vector.
    """

    kind = "svd"

    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [B, F]: the users' vectors, zero without history. Each is a sum in float64 in the order of the history, rounded once, so
        the same in any batch. `ValueError` when a history holds an item that the model has no vector for."""
        check_items(histories.items, self.n_items)
        vectors = np.empty((len(histories), self.vectors.shape[1]), np.float32)
        _fold_in(
            histories.indptr,
            histories.items,
            self.vectors,
            self.arrays["weights"],
            self.arrays["spectrum"],
            vectors,
        )
        return vectors

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The history item of the largest term of the score."""
        check_items(items, self.n_items)
        found = np.zeros(items.shape, np.int32)
        explanations.of_filter(
            histories.indptr,
            histories.items,
            self.vectors,
            self.arrays["weights"],
            self.arrays["spectrum"],
            items,
            found,
        )
        return found


@compiled
def _fold_in(
    indptr: np.ndarray,
    chosen: np.ndarray,
    items: np.ndarray,
    weights: np.ndarray,
    spectrum: np.ndarray,
    vectors: np.ndarray,
) -> None:
    """Fill vectors [B, F]."""
    total = np.empty(len(spectrum))
    for user in range(len(vectors)):
        total[:] = 0
        for at in range(indptr[user], indptr[user + 1]):
            vector, weight = items[chosen[at]], weights[chosen[at]]
            for f in range(len(total)):
                total[f] += weight * vector[f]
        for f in range(len(total)):
            vectors[user, f] = total[f] * spectrum[f]
