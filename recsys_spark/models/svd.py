"""Truncated singular value decomposition (SVD) as an item model. `stages/baselines/svd.py` finds the vectors.

Shapes:  B users of a batch · I items, counting the padding item 0 · F factors · C items to explain
"""

from __future__ import annotations

import numpy as np

from recsys_spark.columns import SVD
from recsys_spark.jit import compiled
from recsys_spark.models.base import check_items
from recsys_spark.models.explanations import strongest_sources
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel


class SvdModel(InnerProductModel):
    """score(u, i) = d_i^target_power * sum over the items j of u's history and over the factors f of

        d_j^-item_power V[j, f] sigma_f^singular_power V[i, f],

    with V [I, F] the top right singular vectors and sigma their singular values of N = D_U^-user_power R
    D_I^-item_power. R is the matrix of the pairs (1 where a user chose an item), D_U and D_I hold the degrees. Repeated
    choices do not count.

    With all powers 0 these are the scores of PureSVD (Cremonesi, Koren and Turrin, RecSys 2010), r_u V V^T. With
    user_power, item_power and target_power 0.5 and singular_power 0 they are the ideal low-pass filter of GF-CF (Shen
    et al., "How powerful is graph convolution for recommendation?", CIKM 2021), r_u D_I^-1/2 V V^T D_I^1/2. With a
    singular_power above 0 the filter falls off smoothly.

    arrays: `items` float32 [I, F] = d_i^target_power V · `weights` float64 [I] = d_i^-(item_power + target_power), the
    factor of an item's vector in a history · `spectrum` float64 [F] = sigma^singular_power. Items without pairs have
    the zero vector.
    """

    kind = SVD

    def encode(self, histories: Histories) -> np.ndarray:
        """Return float32 [B, F], the users' vectors. A user without history has the zero vector.

        Each is a sum in float64, rounded once. Raises `ValueError` when a history holds an item that the model does not
        know.
        """
        check_items(histories.items, self.n_items)
        vectors = np.empty((len(histories), self.vectors.shape[1]), np.float32)
        parts = self.vectors, self.arrays["weights"], self.arrays["spectrum"]
        _fold_in(histories.indptr, histories.items, *parts, vectors)
        return vectors

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the history item of the largest term of the score."""
        check_items(items, self.n_items)

        def terms(user: int, history: slice, asked: np.ndarray) -> np.ndarray:
            sources = histories.items[history]
            weighted = self.arrays["weights"][sources][:, None] * self.vectors[sources]
            return (weighted * self.arrays["spectrum"]) @ self.vectors[asked].T

        return strongest_sources(histories, items, terms)


@compiled
def _fold_in(indptr, histories, items, weights, spectrum, vectors):  # type: ignore[no-untyped-def]
    """Fill vectors [B, F] without a copy of the histories' vectors."""
    total = np.empty(len(spectrum))
    for user in range(len(vectors)):
        total[:] = 0
        for at in range(indptr[user], indptr[user + 1]):
            weight = weights[histories[at]]
            for f in range(len(total)):
                total[f] += weight * items[histories[at], f]
        for f in range(len(total)):
            vectors[user, f] = total[f] * spectrum[f]
