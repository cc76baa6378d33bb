"""Matrix factorisation for implicit feedback as an item model, and the ridge systems that both its fit and its fold-in solve.

`baselines/als.py` alternates `solve_rows` between users and items; `FactorModel.encode` is one more half-step, for users it may never
have seen. One formula, one place.

Shapes:  B users of a batch · I items counting the padding item 0 · C candidates a user · F factors
         R rows to solve (users or items) · O rows of the other side · T entries (observed pairs) of the R rows · n entries of one row
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import lapack

from recsys_spark.item_models.histories import Histories
from recsys_spark.item_models.inner import InnerProductModel
from recsys_spark.item_models.ragged import cuts, ranges

ENTRIES = 1 << 16
"""Entries whose vectors are in memory at a time: 16 MiB with 64 factors, a few times that with temporaries."""


class Rows(Protocol):
    """float32 [O, F] that can be indexed by an array of rows: an array, a memory map, or blocks of one."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Objective:
    """Implicit alternating least squares: x of the users u and y of the items i minimise

        sum over observed (u, i) of (1 + confidence * weight_ui) (1 - x_u.y_i)^2
        + unobserved_weight * sum over all (u, i), the observed ones too, of (x_u.y_i)^2
        + regularization * sum over u of (|I_u| + unobserved_weight * items)^regularization_exponent |x_u|^2
        + regularization * sum over i of (|U_i| + unobserved_weight * users)^regularization_exponent |y_i|^2

    where `items` and `users` are those with an observation, I_u the items of u and U_i the users of i. The observed part is that of Hu,
    Koren and Volinsky, ICDM 2008; the all-pairs part and the frequency-scaled regularisation are those of iALS as in Rendle, Krichene,
    Zhang and Koren, RecSys 2022 ("Revisiting the performance of iALS on item recommendation benchmarks").
    """

    confidence: float
    unobserved_weight: float
    regularization: float
    regularization_exponent: float

    def ridge(self, counts: np.ndarray, n_others: int) -> np.ndarray:
        """float64 [R]: what multiplies |x|^2 of rows with so many entries, beside `n_others` rows of the other side."""
        return (
            self.regularization * (counts + self.unobserved_weight * n_others) ** self.regularization_exponent
        )


class FactorModel(InnerProductModel):
    """score(u, i) = x_u . y_i, x_u the minimiser of the objective for the user's history with the items held fixed.

    arrays: `items` float32 [I, F] · `gram` float32 [F, F] = items^T items.
    parameters: the four of `Objective`, and `fitted_items`, the number of items that were observed.
    """

    kind = "als"

    @property
    def objective(self) -> Objective:
        return Objective(**{name: self.parameters[name] for name in Objective.__dataclass_fields__})

    def encode(self, histories: Histories) -> np.ndarray:
        """float32 [B, F]: the users' vectors, zero without history."""
        others, gram = self.arrays["items"], self.arrays["gram"]
        fitted = self.parameters["fitted_items"]
        return solve_rows(
            histories.indptr, histories.items, histories.weights, others, gram, fitted, self.objective
        )[0]


def solve_rows(
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    others: Rows,
    gram: np.ndarray,
    n_others: int,
    objective: Objective,
) -> tuple[np.ndarray, np.ndarray]:
    """Half a step of ALS: the vectors of R rows that minimise the objective with the other side fixed, solved exactly.

    Entries are CSR: `indptr` int [R+1], `indices` int [T] into `others`, `weights` float32 [T]. `gram` [F, F] is others^T others and
    `n_others` the number of other rows with an observation. Returns the vectors float32 [R, F], zero for rows without entries, and the
    rows' part of the minimum, float64 [R]: observed, all-pairs and own ridge terms.
    """
    lengths = np.diff(indptr)
    system = _System(indices, weights, others, gram, objective)
    ridge = objective.ridge(lengths, n_others)
    vectors = np.zeros((len(lengths), others.shape[1]), np.float32)
    losses = np.zeros(len(lengths))
    # a row of n entries is a system of size F, or one of size n; the smaller is several times cheaper
    limit = others.shape[1] // 2
    for n in np.unique(lengths[(lengths > 0) & (lengths <= limit)]):
        rows = np.flatnonzero(lengths == n)
        for first, last in cuts(lengths[rows], ENTRIES):
            batch = rows[first:last]
            at = indptr[batch][:, None] + np.arange(n)
            vectors[batch], losses[batch] = system.solve_short(at, ridge[batch[0]])
    long = np.flatnonzero(lengths > limit)
    for first, last in cuts(lengths[long], ENTRIES):
        for row, row_gram, target, mass in system.long_rows(long[first:last], indptr):
            vectors[row], losses[row] = system.solve_long(row_gram, target, mass, ridge[row])
    return vectors, losses


def gram_of(vectors: np.ndarray) -> np.ndarray:
    """float64 [F, F]: vectors^T vectors, summed in float64 over slices."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for lo in range(0, len(vectors), ENTRIES):
        part = vectors[lo : lo + ENTRIES]
        total += part.T @ part
    return total


class _System:
    """The systems (G + Z^T W Z) x = Z^T w of a half-step, with G = unobserved_weight * gram + ridge, Z the entries' vectors [n, F] and
    w their weights 1 + confidence * weight. At the minimum the row's part of the objective is sum w - x . Z^T w."""

    def __init__(
        self, indices: np.ndarray, weights: np.ndarray, others: Rows, gram: np.ndarray, objective: Objective
    ):
        self.indices, self.weights, self.others = indices, weights, others
        self.confidence = objective.confidence
        shared = objective.unobserved_weight * np.asarray(gram, np.float64)
        self.shared = shared.astype(np.float32)
        spectrum, basis = np.linalg.eigh(shared)
        self.spectrum, self.basis = np.maximum(spectrum, 0), basis.astype(np.float32)

    def entries(self, at: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and weights w of the entries `at`."""
        w = 1 + np.float32(self.confidence) * np.asarray(self.weights[at], np.float32)
        return self.others[np.asarray(self.indices[at])], w

    def solve_short(self, at: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the same few entries `at` [b, n], through systems of size n (Woodbury): x = G^-1 Z^T s, (1/W + Z G^-1 Z^T) s = 1.

        In the basis where `shared` is diagonal G is as well, so one product rotates all the rows' vectors, and that is all it takes.
        """
        vectors, w = self.entries(at.ravel())
        z = (vectors @ self.basis).reshape(*at.shape, -1)
        scaled = z * (1 / (self.spectrum + ridge)).astype(np.float32)
        kernel = scaled @ z.transpose(0, 2, 1)
        diagonal = np.arange(at.shape[1])
        kernel[:, diagonal, diagonal] += 1 / w.reshape(at.shape)
        s = np.linalg.solve(kernel, np.ones((*at.shape, 1), np.float32))
        x = (s.transpose(0, 2, 1) @ scaled)[:, 0] @ self.basis.T
        return x, s.sum(axis=(1, 2), dtype=np.float64)

    def long_rows(
        self, rows: np.ndarray, indptr: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
        """(row, Z^T W Z, Z^T w, sum w) of consecutive batches of entries, a row longer than a batch in pieces."""
        lengths = np.diff(indptr)[rows]
        if lengths[0] > ENTRIES:
            start, stop = indptr[rows[0] : rows[0] + 2]
            pieces = (slice(lo, min(lo + ENTRIES, stop)) for lo in range(start, stop, ENTRIES))
            yield rows[0], *map(sum, zip(*(self._products(*self.entries(piece)) for piece in pieces)))
            return
        vectors, w = self.entries(ranges(indptr[rows], lengths))
        for row, hi, n in zip(rows, np.cumsum(lengths), lengths):
            yield row, *self._products(vectors[hi - n : hi], w[hi - n : hi])

    def solve_long(
        self, row_gram: np.ndarray, target: np.ndarray, mass: float, ridge: float
    ) -> tuple[np.ndarray, float]:
        """One row through its system of size F."""
        matrix = self.shared + row_gram
        matrix.flat[:: len(matrix) + 1] += ridge
        _, x, failed = lapack.sposv(matrix, target)
        if failed:  # not positive definite any more in float32
            x = np.linalg.lstsq(matrix.astype(np.float64), target.astype(np.float64), rcond=None)[0]
        return x, mass - float(x @ target)

    @staticmethod
    def _products(vectors: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        weighted = vectors * w[:, None]
        return weighted.T @ vectors, w @ vectors, float(w.sum(dtype=np.float64))
