"""Implicit alternating least squares (ALS): the objective, the solver of its rows, and the item model.

`stages/baselines/als.py` solves for users and items in turn. `AlsModel.encode` solves for users alone, whom the fit
need not have seen.

A row is solved by preconditioned conjugate gradients, as Takács, Pilászy and Tikk ("Applications of the conjugate
gradient method for implicit feedback collaborative filtering", RecSys 2011) solve it. Scores do not change when users
and items are rotated alike, so the fixed side is kept in the eigenbasis of its Gram matrix. There the part that all
rows share is diagonal: it is the preconditioner, and a step costs 4 F operations for each entry of the row.

Shapes:  F factors · R rows to solve (users or items) · O rows of the fixed side · T entries (observed pairs) of R rows
         B users of a batch · I items, counting the padding item 0 · C items to explain
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from recsys_spark.columns import ALS
from recsys_spark.jit import REORDER, compiled
from recsys_spark.models.base import check_items
from recsys_spark.models.explanations import strongest_sources
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel

TOLERANCE = 1e-6
"""A row is solved when its residual is this small beside the first one: as exact as float32 vectors can be."""
_ROWS = 1 << 16
"""Vectors whose Gram matrix is summed in float32."""


@dataclass(frozen=True)
class Objective:
    """Implicit alternating least squares: x of the users u and y of the items i minimise

        sum over observed (u, i) of (1 + confidence * weight_ui) (1 - x_u.y_i)^2
        + unobserved_weight * sum over all (u, i), the observed ones too, of (x_u.y_i)^2
        + regularization * sum over u of |I_u|^regularization_exponent |x_u|^2
        + regularization * sum over i of |U_i|^regularization_exponent |y_i|^2

    where I_u are the items of u and U_i the users of i. The first sum is that of Hu, Koren and Volinsky, ICDM 2008. The
    second sum and the exponent are those of iALS: Rendle, Krichene, Zhang and Koren, "Revisiting the performance of
    iALS on item recommendation benchmarks", RecSys 2022. But the exponent applies to a row's own pairs alone, as in
    Zhou, Wilkinson, Schreiber and Pan, "Large-scale parallel collaborative filtering for the Netflix prize", AAIM 2008.
    """

    confidence: float
    unobserved_weight: float
    regularization: float
    regularization_exponent: float

    def ridge(self, counts: np.ndarray) -> np.ndarray:
        """Return float64 [R], the factor of |x|^2 for rows with `counts` entries."""
        return self.regularization * np.asarray(counts, np.float64) ** self.regularization_exponent


def gram_of(vectors: np.ndarray) -> np.ndarray:
    """Return float64 [F, F], vectors^T vectors."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for lo in range(0, len(vectors), _ROWS):
        part = vectors[lo : lo + _ROWS]
        total += part.T @ part
    return total


def eigenbasis(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues float64 [F] and the eigenvectors float32 [F, F] of a Gram matrix.

    `vectors @ eigenvectors` has a diagonal Gram matrix, the eigenvalues.
    """
    spectrum, basis = np.linalg.eigh(gram)
    return np.maximum(spectrum, 0), basis.astype(np.float32)


def solve_rows(
    objective: Objective,
    spectrum: np.ndarray,
    others: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    tolerance: float = TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors float32 [R, F] that minimise the objective, and the minimum of each row, float64 [R].

    `others` float32 [O, F] is the fixed side in its eigenbasis, `spectrum` [F] its eigenvalues. Entries are CSR rows:
    indptr int64 [R+1], indices int32 [T] into `others`, weights float32 [T]. With the vectors Z [n, F] of a row's n
    entries and their weights W, 1 + confidence * weight, x solves

        (unobserved_weight * spectrum + ridge + Z^T W Z) x = Z^T W 1.

    The minimum holds the observed pairs, all pairs and the row's own ridge. A row without entries has zeros. No row's
    result depends on other rows.
    """
    rows = len(indptr) - 1
    vectors, minima = np.zeros((rows, others.shape[1]), np.float32), np.zeros(rows)
    shared = objective.unobserved_weight * np.asarray(spectrum, np.float64)
    ridge = objective.ridge(np.diff(indptr))
    entries = indptr, indices, weights, others
    _solve_rows(*entries, shared, ridge, float(objective.confidence), tolerance, vectors, minima)
    return vectors, minima


class AlsModel(InnerProductModel):
    """score(u, i) = x_u . y_i, x_u the minimiser of the objective for the user's history with the items held fixed.

    arrays: `items` float32 [I, F] in the eigenbasis of their Gram matrix · `spectrum` float64 [F], its eigenvalues.
    parameters: the four of `Objective`.
    """

    kind = ALS

    @classmethod
    def of(cls, objective: Objective, items: np.ndarray) -> AlsModel:
        """Return the model of item vectors float32 [I, F] in any basis."""
        spectrum, basis = eigenbasis(gram_of(items))
        return cls(len(items), asdict(objective), {"items": items @ basis, "spectrum": spectrum})

    @property
    def objective(self) -> Objective:
        return Objective(**self.parameters)

    def encode(self, histories: Histories) -> np.ndarray:
        """Return float32 [B, F], the users' vectors. A user without history has the zero vector.

        Raises `ValueError` when a history holds an item that the model does not know.
        """
        check_items(histories.items, self.n_items)
        entries = histories.indptr, histories.items, histories.weights
        return solve_rows(self.objective, self.arrays["spectrum"], self.vectors, *entries)[0]

    def explain(self, histories: Histories, encoded: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the history item j of the largest term of x_u . y_i = sum over j of w_j y_j^T A_u^-1 y_i.

        A_u is the matrix of the user's system and w_j the confidence (Hu, Koren and Volinsky, ICDM 2008, section 5).
        """
        check_items(items, self.n_items)
        objective = self.objective
        shared = objective.unobserved_weight * np.asarray(self.arrays["spectrum"])

        def terms(user: int, history: slice, asked: np.ndarray) -> np.ndarray:
            z, y = (self.vectors[part].astype(np.float64) for part in (histories.items[history], asked))
            w = 1 + objective.confidence * histories.weights[history].astype(np.float64)
            diagonal = shared + objective.ridge(np.array(len(z)))
            if len(z) < len(diagonal):  # the smaller system, by Woodbury's identity
                scaled = z / diagonal
                return np.linalg.solve(scaled @ z.T + np.diag(1 / w), scaled @ y.T)
            return w[:, None] * (z @ np.linalg.solve((z.T * w) @ z + np.diag(diagonal), y.T))

        return strongest_sources(histories, items, terms)


@compiled(fastmath=REORDER)
def _solve_rows(indptr, indices, weights, others, shared, ridge, confidence, tolerance, vectors, minima):  # type: ignore[no-untyped-def]
    """Fill vectors [R, F], which is zero, and minima [R]. The arithmetic is in float64."""
    factors = others.shape[1]
    diagonal, target, x = np.empty(factors), np.empty(factors), np.empty(factors)
    residual, scaled = np.empty(factors), np.empty(factors)
    direction, product = np.empty(factors), np.empty(factors)
    for row in range(len(vectors)):
        first, last = indptr[row], indptr[row + 1]
        if first == last:
            continue
        mass = 0.0
        target[:] = x[:] = 0
        for at in range(first, last):
            other, weight = others[indices[at]], 1 + confidence * weights[at]
            mass += weight
            for f in range(factors):
                target[f] += weight * other[f]
        for f in range(factors):
            diagonal[f] = shared[f] + ridge[row]
            residual[f] = target[f]
            direction[f] = target[f] / diagonal[f]
        size = _dot(residual, direction)
        enough = size * tolerance**2
        for _ in range(2 * factors):
            if not size > enough:
                break
            for f in range(factors):
                product[f] = diagonal[f] * direction[f]
            for at in range(first, last):
                other, total = others[indices[at]], 0.0
                for f in range(factors):
                    total += other[f] * direction[f]
                total *= 1 + confidence * weights[at]
                for f in range(factors):
                    product[f] += total * other[f]
            step = size / _dot(direction, product)
            for f in range(factors):
                x[f] += step * direction[f]
                residual[f] -= step * product[f]
                scaled[f] = residual[f] / diagonal[f]
            previous, size = size, _dot(residual, scaled)
            for f in range(factors):
                direction[f] = scaled[f] + size / previous * direction[f]
        vectors[row] = x
        minima[row] = mass - _dot(x, target) - _dot(x, residual)


@compiled(fastmath=REORDER)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for f in range(len(a)):
        total += a[f] * b[f]
    return total
