"""e to the power of numbers up to 0, in a form that the compiler turns into vector instructions; it does not for the library's `exp`."""

from __future__ import annotations

import numba
import numpy as np

from recsys_spark.jit import REORDER, compiled

_LOG2E, _LEAST, _HALF, _ONE = (np.float32(x) for x in (1.4426950408889634, -126, 0.5, 1))
# exp2f of Cephes (S. Moshier): 2**f for |f| <= 1/2, relative error below 2e-7
_C1, _C2, _C3 = (
    np.float32(6.931472028550421e-1),
    np.float32(2.402264791363012e-1),
    np.float32(5.550332471162809e-2),
)
_C4, _C5, _C6 = (
    np.float32(9.618437357674640e-3),
    np.float32(1.339887440266574e-3),
    np.float32(1.535336188319500e-4),
)
_MANTISSA, _HALF_WORD, _ROUND = np.int32(23), np.int32(16), np.int32(0x7FFF)
_ODD = np.int32(1)
_SIGN, _REST = np.int32(31), np.int32(0x7FFFFFFF)


@numba.njit
def most_of(numbers):  # type: ignore[no-untyped-def]
    """The greatest of float32 `numbers`, found among integers of the same order: their search is vectorised, that of floats is not."""
    bits = numbers.view(np.int32)
    most = _ordered(bits[0])
    for i in range(len(bits)):
        most = max(most, _ordered(bits[i]))
    one = np.empty(1, np.int32)
    one[0] = _ordered(most)
    return one.view(np.float32)[0]


@numba.njit
def _ordered(bits):  # type: ignore[no-untyped-def]
    """The bits of a float as an integer of the same order, and back: those of a negative one are turned round, but for the sign."""
    return bits ^ ((bits >> _SIGN) & _REST)


@numba.njit(fastmath=REORDER)
def exponentials(numbers, most):  # type: ignore[no-untyped-def]
    """Replace float32 `numbers` by e**(number - most), none of which exceeds 1, and return their sum. Results below 2**-126 are that."""
    bits = numbers.view(np.int32)
    for i in range(len(numbers)):
        x = max((numbers[i] - most) * _LOG2E, _LEAST)
        k = np.floor(x + _HALF)
        f = x - k
        y = ((((_C6 * f + _C5) * f + _C4) * f + _C3) * f + _C2) * f + _C1
        numbers[i] = y * f + _ONE
        bits[i] += np.int32(k) << _MANTISSA  # times 2**k
    total = np.float32(0)
    for i in range(len(numbers)):
        total += numbers[i]
    return total


@numba.njit
def add(numbers, others):  # type: ignore[no-untyped-def]
    """Add float32 `others` to as many `numbers`."""
    for i in range(len(others)):
        numbers[i] += others[i]


@compiled(fastmath=REORDER)
def powers_of_float32(logits: np.ndarray, biases: np.ndarray, most: np.ndarray, sums: np.ndarray) -> None:
    """Set `most` float32 [R] to the greatest of each row of `logits` float32 [R, I or more] + `biases` float32 [I], replace the row by
    e**(logit + bias - most), and by 0 beyond the biases, and set `sums` float32 [R] to the sums of the powers."""
    n = len(biases)
    for row in range(len(logits)):
        numbers = logits[row, :n]
        add(numbers, biases)
        most[row] = most_of(numbers)
        sums[row] = exponentials(numbers, most[row])
        # not the least power there is: the products of such numbers take a processor a hundred times as long
        logits[row, n:] = np.float32(0)


@compiled(fastmath=REORDER)
def powers_of_bfloat16(logits: np.ndarray, biases: np.ndarray, most: np.ndarray, sums: np.ndarray) -> None:
    """`powers_of_float32` of `logits` that are the bits of bfloat16 as int16, for numpy has no such type; the sums are those before the powers are
    rounded."""
    n = len(biases)
    bits = np.empty(n, np.int32)
    numbers = bits.view(np.float32)
    for row in range(len(logits)):
        for i in range(n):
            bits[i] = np.int32(logits[row, i]) << _HALF_WORD
        add(numbers, biases)
        most[row] = most_of(numbers)
        sums[row] = exponentials(numbers, most[row])
        for i in range(n):
            # to the nearest, of two equally near to the even one
            up = _ROUND + ((bits[i] >> _HALF_WORD) & _ODD)
            logits[row, i] = np.int16((bits[i] + up) >> _HALF_WORD)
        logits[row, n:] = np.int16(0)
