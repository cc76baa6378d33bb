"""Compiled loops of the ridge systems (models/ridge.py): gather, rotate, products, Cholesky.

Every sum runs in the order of its terms, so a row's solution is the same bits whatever rows are solved beside it. Matrices are flat, row
after row, with rows of whole vectors of `LANES` numbers and as many rows as whole tiles of `ROWS`.

Shapes:  S factors, rounded up to whole LANES (the added ones are zero) · n entries of a row, rounded up: width
         U rows gathered, rounded up to whole ROWS · T entries · R rows to solve
"""

from __future__ import annotations

import numpy as np

from recsys_spark.jit import REORDER, compiled
from recsys_spark.models.llvm import LANES, bare
from recsys_spark.models.ridge_small import FAILED, FUSED, SMALL, STEEPEST, solve_small
from recsys_spark.models.tiles import ROWS, WIDE, add_tile, add_wide_tile

_ONE, _MINUS = np.float32(1), np.float32(-1)


@compiled
def renumber(indices: np.ndarray, at: np.ndarray, found: np.ndarray, table: np.ndarray) -> int:
    """Number the different `indices` int64 [T] in the order they are met: at[t] is the number of indices[t] and found[number] the index.

    `table` int64, filled with -1, has a power of two of places, more than T. Returns how many there are.
    """
    last, count = len(table) - 1, 0
    for t in range(len(indices)):
        place = ((indices[t] * 0x9E3779B97F4A7C1) >> 20) & last
        while table[place] >= 0 and found[table[place]] != indices[t]:
            place = (place + 1) & last
        if table[place] < 0:
            table[place] = count
            found[count] = indices[t]
            count += 1
        at[t] = table[place]
    return count


@compiled(fastmath=FUSED)
def rotate(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """vectors[:, :len(basis)] @ basis. A whole number of ROWS times a whole number of LANES."""
    rows, columns = len(vectors), basis.shape[1]
    rotated = np.zeros((rows, columns), np.float32)
    a, b, c = vectors.reshape(-1), basis.reshape(-1), rotated.reshape(-1)
    stride, depth = vectors.shape[1], len(basis)
    wide = columns - columns % (WIDE * LANES)
    for i in range(0, rows, ROWS):
        for j in range(0, wide, WIDE * LANES):
            add_wide_tile(_ONE, a, i * stride, stride, 1, b, j, columns, depth, c, i * columns + j, columns)
        for j in range(wide, columns, LANES):
            add_tile(_ONE, a, i * stride, stride, 1, b, j, columns, depth, c, i * columns + j, columns)
    return rotated


@compiled(fastmath=FUSED)
def solve(
    indptr: np.ndarray,
    at: np.ndarray,
    w: np.ndarray,
    local: np.ndarray,
    spectrum: np.ndarray,
    ridge: np.ndarray,
    solution: np.ndarray,
    losses: np.ndarray,
) -> None:
    """The rows' x in `solution` float32 [R, S] and their minima in `losses` float64 [R], FAILED where float32 is too short.

    at int64 [T] into local float32 [U, S], the other side's vectors in the basis where the shared matrix is diagonal, `spectrum` float32 [S];
    w float32 [T]; ridge float64 [R]. A row without entries is left as it is.
    """
    at, w, local, solution = bare(at), bare(w), bare(local), bare(solution)
    size = local.shape[1]
    small = min(SMALL, size)
    solve_small(indptr, at, w, local.reshape(-1), spectrum, ridge, small, solution, losses)
    panel, m = np.empty(size * size, np.float32), np.empty(size * size, np.float32)
    root = np.empty(size, np.float32)
    for r in range(len(ridge)):
        lo, hi = indptr[r], indptr[r + 1]
        if hi - lo > small:
            set_root(spectrum, ridge[r], root)
        if hi - lo > size:
            target = np.zeros(size, np.float32)
            start_long(m, size)
            mass = add_entries(at[lo:hi], w[lo:hi], local, root, panel, m, target)
            losses[r] = mass - finish_long(m, target, root, solution[r])
        elif hi - lo > small:
            losses[r] = _solve_short(at[lo:hi], w[lo:hi], local, root, panel, m, solution[r])


@compiled
def set_root(spectrum: np.ndarray, ridge: float, root: np.ndarray) -> None:
    """root = D^-1/2, D the diagonal matrix that a row's system begins with."""
    for c in range(len(root)):
        root[c] = 1 / np.sqrt(spectrum[c] + ridge)


@compiled(fastmath=FUSED)
def _solve_short(
    at: np.ndarray,
    w: np.ndarray,
    local: np.ndarray,
    root: np.ndarray,
    panel: np.ndarray,
    m: np.ndarray,
    x: np.ndarray,
) -> float:
    """A row of n <= S entries through its system of size n (Woodbury): with B = W^1/2 Z D^-1/2, x = D^-1/2 B^T y, (I + B B^T) y = W^1/2 1.
    Returns the minimum, 1^T W^1/2 y."""
    local, panel, m = bare(local), bare(panel), bare(m)
    n, size = len(at), len(root)
    width = (n + LANES - 1) // LANES * LANES
    panel[: size * width] = 0
    halves, y = np.empty(n, np.float32), np.empty(n, np.float32)
    scale = np.empty(size, np.float32)
    for k in range(n):
        halves[k] = y[k] = np.sqrt(w[k])
        _times(halves[k], root, scale)
        _put_column(local[at[k]], scale, panel[k : size * width], width)
    m[: (n + ROWS - 1) // ROWS * ROWS * width] = 0
    m[: n * width : width + 1] = 1
    _add_products(panel, size, n, width, m)
    if not _factor(m, n, width, y):
        return FAILED
    _substitute(m, n, width, y)
    total = 0.0
    x[:] = 0
    for k in range(n):
        total += halves[k] * y[k]
        _add_scaled(halves[k] * y[k], local[at[k]], x)
    for c in range(size):
        x[c] *= root[c] * root[c]
    return total


@compiled
def start_long(m: np.ndarray, size: int) -> None:
    """The identity."""
    m[:] = 0
    m[:: size + 1] = 1


@compiled(fastmath=FUSED)
def add_entries(
    at: np.ndarray,
    w: np.ndarray,
    local: np.ndarray,
    root: np.ndarray,
    panel: np.ndarray,
    m: np.ndarray,
    target: np.ndarray,
) -> float:
    """Add B^T B to m [S, S] and B^T W^1/2 1 to target [S]; returns the sum of w."""
    local, panel, target = bare(local), bare(panel), bare(target)
    size, mass = len(root), 0.0
    for lo in range(0, len(at), size):
        depth = min(size, len(at) - lo)
        for k in range(depth):
            half = np.sqrt(w[lo + k])
            mass += w[lo + k]
            row = panel[k * size : (k + 1) * size]
            _scale_into(half, local[at[lo + k]], root, row)
            _add_scaled(half, row, target)
        _add_products(panel, depth, size, size, m)
    return mass


@compiled(fastmath=FUSED)
def finish_long(m: np.ndarray, target: np.ndarray, root: np.ndarray, x: np.ndarray) -> float:
    """Solve m y = target, x = D^-1/2 y; returns target^T m^-1 target. Destroys m and target."""
    size = len(root)
    if not _factor(m, size, size, target):
        return FAILED
    total = 0.0
    for c in range(size):
        total += np.float64(target[c]) * target[c]
    _substitute(m, size, size, target)
    for c in range(size):
        x[c] = root[c] * target[c]
    return total


@compiled(fastmath=FUSED)
def _add_products(panel: np.ndarray, depth: int, n: int, width: int, m: np.ndarray) -> None:
    """The upper triangle of m [n, width] += panel^T panel, panel [depth, width]. What lies below the diagonal is rubbish."""
    for i in range(0, n, ROWS):
        for j in range(i // LANES * LANES, width, LANES):
            add_tile(_ONE, panel, i, 1, width, panel, j, width, depth, m, i * width + j, width)


@compiled(fastmath=FUSED)
def _factor(m: np.ndarray, n: int, width: int, y: np.ndarray) -> bool:
    """m = U^T U in place, the diagonal of U inverted, and y = U^-T y. False when float32 is too short for it.

    m is the identity and a positive semidefinite matrix: no pivot can be below one.
    """
    m, y = bare(m), bare(y)
    sound = True
    for k in range(n):
        sound &= m[k * (width + 1)] < STEEPEST
    for start in range(0, n, ROWS):
        for j in range(start // LANES * LANES, width, LANES):
            add_tile(_MINUS, m, start, 1, width, m, j, width, start, m, start * width + j, width)
        for k in range(start, min(start + ROWS, n)):
            row = m[k * width + k : (k + 1) * width]
            for c in range(start, k):
                _add_scaled(-m[c * width + k], m[c * width + k : (c + 1) * width], row)
            sound &= row[0] > 0.5
            inverse = _ONE / np.sqrt(row[0])
            for j in range(len(row)):
                row[j] *= inverse
            y[k] *= inverse
            _add_scaled(-y[k], row[1 : n - k], y[k + 1 : n])
            row[0] = inverse
    return sound


@compiled(fastmath=REORDER)
def _substitute(m: np.ndarray, n: int, width: int, y: np.ndarray) -> None:
    """y = U^-1 y."""
    m, y = bare(m), bare(y)
    for k in range(n - 1, -1, -1):
        row, known, total = m[k * width + k + 1 : k * width + n], y[k + 1 : n], np.float32(0)
        for j in range(len(row)):
            total += row[j] * known[j]
        y[k] = (y[k] - total) * m[k * (width + 1)]


# Loops over len(slice): numba asks of any other index whether it is negative, which keeps a loop from being vectorised.


@compiled(fastmath=FUSED)
def _add_scaled(factor: float, vector: np.ndarray, total: np.ndarray) -> None:
    for j in range(len(total)):
        total[j] += factor * vector[j]


@compiled(fastmath=FUSED)
def _scale_into(factor: float, vector: np.ndarray, root: np.ndarray, row: np.ndarray) -> None:
    for j in range(len(row)):
        row[j] = factor * root[j] * vector[j]


@compiled
def _times(factor: float, root: np.ndarray, scale: np.ndarray) -> None:
    for j in range(len(scale)):
        scale[j] = factor * root[j]


@compiled
def _put_column(vector: np.ndarray, scale: np.ndarray, panel: np.ndarray, width: int) -> None:
    for c in range(len(vector)):
        panel[c * width] = vector[c] * scale[c]
