"""The ridge systems of short rows (ridge_kernels.py), LANES of them at a time: most users and most items have few entries.

All arrays but the first are flat and hold vectors of LANES numbers, one of each row (lanes.py).

Shapes:  S factors, rounded up to whole LANES · n entries of the longest row of a group, rounded up to whole BLOCKs: width
"""

from __future__ import annotations

import numpy as np

from recsys_spark.jit import compiled
from recsys_spark.models.lanes import (
    BLOCK,
    lane_dot,
    lane_gather,
    lane_inverse_root,
    lane_products,
    lane_scale,
    lane_turn,
)
from recsys_spark.models.llvm import LANES

FUSED = {"contract"}
"""a * b + c in one instruction; the order of sums stays as written."""
STEEPEST = np.float32(1 << 14)
"""A diagonal above it leaves too little of the identity in float32 (24 bits)."""
LARGEST_INVERSE = np.float32(2**0.5)
"""No pivot is below one, so the inverse of its root is none above it; one above this has lost what it is."""
FAILED = np.nan
SMALL = 64
"""Rows of up to so many entries are solved LANES at a time."""

_ONE, _MINUS = np.float32(1), np.float32(-1)


@compiled(fastmath=FUSED)
def solve_small(
    indptr: np.ndarray,
    at: np.ndarray,
    w: np.ndarray,
    local: np.ndarray,
    spectrum: np.ndarray,
    ridge: np.ndarray,
    most: int,
    solution: np.ndarray,
    losses: np.ndarray,
) -> None:
    """`ridge_kernels._solve_short` for the rows of at most `most` entries, LANES rows of about the same length at a time; `local` is flat.

    All arrays hold vectors of LANES: z [width, S] the entries' vectors times `root` [S], m [width, width] its lower triangle, y [width].
    What a row lacks of the longest of its group weighs nothing: it adds zeros.
    """
    order = _by_length(indptr, most)
    size, room = len(spectrum), (most + BLOCK - 1) // BLOCK * BLOCK
    z, m = np.empty(room * size * LANES, np.float32), np.empty(room * room * LANES, np.float32)
    halves, y = np.zeros(room * LANES, np.float32), np.empty(room * LANES, np.float32)
    root, x = np.empty(size * LANES, np.float32), np.empty(size * LANES, np.float32)
    offsets, found = np.empty(room * LANES, np.int64), np.empty(LANES * size, np.float32)
    sound, totals = np.empty(LANES, np.bool_), np.empty(LANES)
    for first in range(0, len(order), LANES):
        rows = order[first : first + LANES]
        n = indptr[rows[-1] + 1] - indptr[rows[-1]]
        width = (n + BLOCK - 1) // BLOCK * BLOCK
        for lane in range(LANES):
            row = rows[min(lane, len(rows) - 1)]
            lo, own = indptr[row], indptr[row + 1] - indptr[row]
            for k in range(width):
                offsets[k * LANES + lane] = at[lo + min(k, own - 1)] * size
                halves[k * LANES + lane] = np.sqrt(w[lo + k]) if k < own else 0
            for c in range(size):
                root[c * LANES + lane] = spectrum[c] + ridge[row]
        for c in range(size):
            lane_inverse_root(root, c * LANES)
        for k in range(width):
            for c in range(0, size, LANES):
                lane_gather(local, offsets, k * LANES, c, z, (k * size + c) * LANES)
            for c in range(size):
                lane_scale(z, (k * size + c) * LANES, root, c * LANES)
        y[: n * LANES] = halves[: n * LANES]
        _small_matrices(z, halves, n, width, size, m)
        sound[:] = True
        for k in range(n):
            for lane in range(LANES):
                sound[lane] &= m[k * (width + 1) * LANES + lane] < STEEPEST
        _factor_and_solve(m, n, width, y)
        totals[:] = 0
        for k in range(n):
            lane_scale(y, k * LANES, halves, k * LANES)
            for lane in range(LANES):
                totals[lane] += y[k * LANES + lane]
                sound[lane] &= m[k * (width + 1) * LANES + lane] < LARGEST_INVERSE
        x[:] = 0
        for c in range(size):
            lane_dot(_ONE, z, c * LANES, size * LANES, y, 0, LANES, n, x, c * LANES)
            lane_scale(x, c * LANES, root, c * LANES)
        for c in range(0, size, LANES):
            lane_turn(x, c * LANES, found, c, size)
        for lane in range(len(rows)):
            solution[rows[lane], :size] = found[lane * size : (lane + 1) * size]
            losses[rows[lane]] = totals[lane] if sound[lane] else FAILED


@compiled
def _by_length(indptr: np.ndarray, most: int) -> np.ndarray:
    """The rows of 1 to `most` entries, shorter ones first."""
    ends = np.zeros(most + 2, np.int64)
    for row in range(len(indptr) - 1):
        n = indptr[row + 1] - indptr[row]
        if 0 < n <= most:
            ends[n + 1] += 1
    for n in range(most + 1):
        ends[n + 1] += ends[n]
    order = np.empty(ends[most + 1], np.int64)
    for row in range(len(indptr) - 1):
        n = indptr[row + 1] - indptr[row]
        if 0 < n <= most:
            order[ends[n]] = row
            ends[n] += 1
    return order


@compiled(fastmath=FUSED)
def _small_matrices(z: np.ndarray, halves: np.ndarray, n: int, width: int, size: int, m: np.ndarray) -> None:
    """m = I + W^1/2 Z Z^T W^1/2, the lower triangle."""
    m[: width * width * LANES] = 0
    for i in range(0, width, BLOCK):
        for j in range(0, i + 1, BLOCK):
            lane_products(
                z, i * size * LANES, j * size * LANES, size * LANES, size,
                m, (i * width + j) * LANES, width * LANES,
            )  # fmt: skip
    for i in range(n):
        for j in range(i + 1):
            lane_scale(m, (i * width + j) * LANES, halves, i * LANES)
            lane_scale(m, (i * width + j) * LANES, halves, j * LANES)
        one = m[i * (width + 1) * LANES : (i * (width + 1) + 1) * LANES]
        for lane in range(len(one)):
            one[lane] += _ONE


@compiled(fastmath=FUSED)
def _factor_and_solve(m: np.ndarray, n: int, width: int, y: np.ndarray) -> None:
    """m = L L^T in place, the diagonal of L inverted, and y = m^-1 y."""
    row = width * LANES
    for j in range(n):
        diagonal = j * row + j * LANES
        lane_dot(_MINUS, m, j * row, LANES, m, j * row, LANES, j, m, diagonal)
        lane_inverse_root(m, diagonal)
        for i in range(j + 1, n):
            lane_dot(_MINUS, m, i * row, LANES, m, j * row, LANES, j, m, i * row + j * LANES)
            lane_scale(m, i * row + j * LANES, m, diagonal)
        lane_dot(_MINUS, m, j * row, LANES, y, 0, LANES, j, y, j * LANES)
        lane_scale(y, j * LANES, m, diagonal)
    for j in range(n - 1, -1, -1):
        lane_dot(_MINUS, m, (j + 1) * row + j * LANES, row, y, (j + 1) * LANES, LANES, n - 1 - j, y, j * LANES)
        lane_scale(y, j * LANES, m, j * row + j * LANES)
