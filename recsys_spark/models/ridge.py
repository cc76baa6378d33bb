"""The ridge systems of implicit ALS: what a half-step of the fit and the fold-in of a user both solve, exactly. One formula, one place.

Shapes:  F factors · S factors, rounded up to whole lanes of the processor · R rows to solve (users or items) · O rows of the other side
         T entries (observed pairs) of the R rows · U different rows of the other side among them
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recsys_spark.models import ridge_kernels as kernels
from recsys_spark.models.llvm import LANES
from recsys_spark.models.ragged import cuts
from recsys_spark.models.tiles import ROWS

ENTRIES = 1 << 17
"""Entries whose vectors are in memory at a time: twice 32 MiB with 64 factors at most, as far as they are all different."""


class Rows(Protocol):
    """float32 [O, F] that can be indexed by an array of rows: an array, a memory map, or blocks of one."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Objective:
    """Implicit alternating least squares: x of the users u and y of the items i minimise

        sum over observed (u, i) of (1 + confidence * weight_ui) (1 - x_u.y_i)^2
        + unobserved_weight * sum over all (u, i), the observed ones too, of (x_u.y_i)^2
        + regularization * sum over u of |I_u|^regularization_exponent |x_u|^2
        + regularization * sum over i of |U_i|^regularization_exponent |y_i|^2

    where I_u are the items of u and U_i the users of i. The observed part is that of Hu, Koren and Volinsky, ICDM 2008; the all-pairs part
    and the exponent are those of iALS as in Rendle, Krichene, Zhang and Koren, RecSys 2022 ("Revisiting the performance of iALS on item
    recommendation benchmarks"), but that the ridge is scaled by a row's own pairs alone, as Zhou, Wilkinson, Schreiber and Pan, AAIM 2008
    ("Large-scale parallel collaborative filtering for the Netflix prize") scale it, and not by the pairs not observed too.
    """

    confidence: float
    unobserved_weight: float
    regularization: float
    regularization_exponent: float

    def ridge(self, counts: np.ndarray) -> np.ndarray:
        """float64 [R]: what multiplies |x|^2 of rows with so many entries."""
        return self.regularization * np.asarray(counts, np.float64) ** self.regularization_exponent

    def confidences(self, weights: np.ndarray) -> np.ndarray:
        """float32 [T]: what the squared errors of entries of these weights count."""
        return 1 + np.float32(self.confidence) * np.asarray(weights, np.float32)


@dataclass(frozen=True)
class System:
    """The systems (G + ridge + Z^T W Z) x = Z^T w of a half-step, with Z the entries' vectors [n, F], w their weights 1 + confidence *
    weight, and G = unobserved_weight * gram, gram [F, F] that of the other side's vectors.

    All is solved in the `basis` float32 [F, F] in which G is diagonal, its `spectrum` float32 [F]: there a short row's system has the
    size of its entries and not that of the factors.
    """

    objective: Objective
    spectrum: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, objective: Objective, gram: np.ndarray) -> System:
        spectrum, basis = np.linalg.eigh(objective.unobserved_weight * np.asarray(gram, np.float64))
        return cls(objective, np.maximum(spectrum, 0).astype(np.float32), basis.astype(np.float32))


def solve_rows(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, others: Rows, system: System
) -> tuple[np.ndarray, np.ndarray]:
    """Half a step of ALS: the vectors of R rows that minimise the objective with the other side fixed.

    Entries are CSR: `indptr` int [R+1], `indices` int [T] into `others`, `weights` float32 [T]. Returns the vectors float32 [R, F], zero
    for rows without entries, and the rows' part of the minimum, float64 [R]: observed, all-pairs and own ridge terms. A row's result is
    the same bits whatever other rows are there.
    """
    indptr = np.asarray(indptr, np.int64)
    lengths = np.diff(indptr)
    rows = _Rows(system, others, system.objective.ridge(lengths))
    vectors, losses = np.zeros((len(lengths), len(system.basis)), np.float32), np.zeros(len(lengths))
    for first, last in cuts(lengths, ENTRIES):
        lo, hi = indptr[first], indptr[last]
        at = indptr[first : last + 1] - lo
        solve = rows.solve_one if hi - lo > ENTRIES else rows.solve
        vectors[first:last], losses[first:last] = solve(slice(first, last), at, indices[lo:hi], weights[lo:hi])
    return vectors, losses


def rotated(indices: np.ndarray, others: Rows, system: System) -> tuple[np.ndarray, np.ndarray]:
    """(at int64 [T], local float32 [U, F]): the rows `indices` int [T] of the other side in the basis of `system.spectrum`, local[at], each once."""
    rows = _Rows(system, others, np.empty(0))
    at, local = rows.gather(indices)
    return at, local[:, : len(system.basis)]


def gram_of(vectors: np.ndarray) -> np.ndarray:
    """float64 [F, F]: vectors^T vectors, summed in float64 over slices."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for lo in range(0, len(vectors), ENTRIES):
        part = vectors[lo : lo + ENTRIES]
        total += part.T @ part
    return total


class _Rows:
    """The rows of one call, solved by slices."""

    def __init__(self, system: System, others: Rows, ridge: np.ndarray):
        self.system, self.others, self.ridge = system, others, ridge
        factors = len(system.basis)
        self.size = _whole(factors, LANES)
        self.spectrum = np.zeros(self.size, np.float32)
        self.spectrum[:factors] = system.spectrum
        self.basis = np.zeros((factors, self.size), np.float32)
        self.basis[:, :factors] = system.basis
        self.back = np.zeros((factors, self.size), np.float32)
        self.back[:, :factors] = system.basis.T

    def solve(
        self, rows: slice, indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and minima of the rows; `indptr` starts at 0."""
        ridge, losses = self.ridge[rows], np.zeros(len(indptr) - 1)
        solution = self._empty(len(losses))
        kernels.solve(indptr, *self._entries(indices, weights), self.spectrum, ridge, solution, losses)
        vectors = self._turned_back(solution, len(losses))
        for row in np.flatnonzero(np.isnan(losses)):
            part = slice(indptr[row], indptr[row + 1])
            vectors[row], losses[row] = self._precisely(ridge[row], indices[part], weights[part])
        return vectors, losses

    def solve_one(
        self, rows: slice, _indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """A row of more than ENTRIES entries, in pieces."""
        ridge, mass, solution = self.ridge[rows.start], 0.0, self._empty(1)
        root, target = np.zeros((2, self.size), np.float32)
        m, panel = np.empty((2, self.size**2), np.float32)
        kernels.set_root(self.spectrum, ridge, root)
        kernels.start_long(m, self.size)
        for piece in _pieces(len(indices)):
            entries = self._entries(indices[piece], weights[piece])
            mass += kernels.add_entries(*entries, root, panel, m, target)
        loss = mass - kernels.finish_long(m, target, root, solution[0])
        if np.isnan(loss):
            return self._precisely(ridge, indices, weights)
        return self._turned_back(solution, 1), loss

    def _precisely(self, ridge: float, indices: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
        """One row in float64, from vectors that were never rotated."""
        basis = self.system.basis.astype(np.float64)
        matrix = (basis * self.system.spectrum) @ basis.T + ridge * np.eye(len(basis))
        target, mass = np.zeros(len(basis)), 0.0
        for piece in _pieces(len(indices)):
            vectors = np.asarray(self.others[np.asarray(indices[piece])], np.float64)
            w = self.system.objective.confidences(weights[piece]).astype(np.float64)
            matrix += vectors.T @ (w[:, None] * vectors)
            target += w @ vectors
            mass += w.sum()
        x = np.linalg.lstsq(matrix, target, rcond=None)[0]
        return x, mass - float(x @ target)

    def _entries(self, indices: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(at int64 [T] into local, w float32 [T], local float32 [U, S]) of entries."""
        at, local = self.gather(indices)
        return at, self.system.objective.confidences(weights), local

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(at int64 [T] into local, local float32 [U, S]): every vector they need once, in the basis of `spectrum`."""
        indices = np.array(indices, np.int64)
        at, found = np.empty(len(indices), np.int64), np.empty(len(indices) + ROWS, np.int64)
        table = np.full(1 << (2 * len(indices) + 1).bit_length(), -1)
        count = kernels.renumber(indices, at, found, table)
        whole = _whole(count, ROWS)
        found[count:whole] = found[0]
        vectors = np.asarray(self.others[found[:whole]], np.float32)
        return at, kernels.rotate(np.ascontiguousarray(vectors), self.basis)

    def _empty(self, rows: int) -> np.ndarray:
        return np.zeros((_whole(rows, ROWS), self.size), np.float32)

    def _turned_back(self, solution: np.ndarray, rows: int) -> np.ndarray:
        return kernels.rotate(solution, self.back)[:rows, : len(self.back)]


def _pieces(entries: int) -> Iterator[slice]:
    return (slice(lo, lo + ENTRIES) for lo in range(0, entries, ENTRIES))


def _whole(count: int, unit: int) -> int:
    return -(-count // unit) * unit
