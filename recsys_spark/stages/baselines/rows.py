"""A row of a side or of shards (blocks.py) as compiled loops see it, whichever of the mapped files it stands in."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from recsys_spark.jit import compiled


def _pointer_to(number: Any) -> Any:
    @intrinsic
    def pointer(_context: Any, _address: Any) -> Any:
        signature = types.CPointer(number)(types.int64)

        def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, cast

    return pointer


_int64_at = _pointer_to(types.int64)
_int32_at = _pointer_to(types.int32)
_float32_at = _pointer_to(types.float32)


@compiled
def row_of(starts: np.ndarray, row: int) -> np.ndarray:
    """int32: the indices of a row, a view of the mapped file. `starts` is `Side.starts`."""
    block, at = row % starts.shape[1], row // starts.shape[1]
    indptr = numba.carray(_int64_at(starts[0, block]), (at + 2,))
    lo, hi = indptr[at], indptr[at + 1]
    return numba.carray(_int32_at(starts[1, block] + 4 * lo), (hi - lo,))


@compiled
def weights_of(starts: np.ndarray, row: int) -> np.ndarray:
    """float32: the weights of a row's entries, in the order of `row_of`."""
    block, at = row % starts.shape[1], row // starts.shape[1]
    indptr = numba.carray(_int64_at(starts[0, block]), (at + 2,))
    lo, hi = indptr[at], indptr[at + 1]
    return numba.carray(_float32_at(starts[2, block] + 4 * lo), (hi - lo,))


@compiled
def vector_of(starts: np.ndarray, row: int, width: int) -> np.ndarray:
    """float32 [width]: a row of `Shards` of float32, a view of the mapped file. `starts` is `Shards.starts`."""
    block, at = row % len(starts), row // len(starts)
    return numba.carray(_float32_at(starts[block] + 4 * width * at), (width,))
