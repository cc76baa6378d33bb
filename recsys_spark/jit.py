"""Compiles loops that numpy cannot express, with numba, for the processor of the machine.

The machine code is cached beside the source, or in the user's cache where that folder cannot be written, so only the
first process of a machine compiles. `NUMBA_CACHE_DIR` names another place. A compiled function releases the GIL and
uses one thread, because Spark gives each task one core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

REORDER = {"reassoc", "contract", "arcp", "nsz"}
"""Value of `fastmath` that lets a sum of floats be vectorised. Infinities and NaN keep their meaning."""


def compiled(
    function: Callable[..., Any] | None = None, *, fastmath: set[str] | bool = False, inline: bool = False
) -> Any:
    """Decorate a function so that numba compiles it when it is first called.

    Pass `fastmath=REORDER` for reductions whose last bit does not matter. By default the arithmetic is exactly as
    written. Pass `inline` for a short function in an inner loop, where counting references to arrays would take as long
    as the work.
    """
    if function is None:
        return lambda f: compiled(f, fastmath=fastmath, inline=inline)
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": fastmath,
        "inline": "always" if inline else "never",
    }
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no cache folder can be written, so every process compiles for itself
        return numba.njit(**options)(function)
