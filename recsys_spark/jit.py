"""Loops that numpy has no words for, compiled for the processor at hand (numba).

The machine code is kept beside the source, or in the user's cache where that cannot be written, so that only the first process of a
machine compiles. `NUMBA_CACHE_DIR` names another place. A compiled function holds no lock while it runs and uses one thread: Spark
gives each task its core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
from numba.core.registry import cpu_target

Function = TypeVar("Function", bound=Callable[..., Any])

REORDER = {"reassoc", "contract", "arcp", "nsz"}
"""What a sum of floats may be allowed to do so that it is vectorised. Infinities and NaN keep their meaning."""


def compiled(function: Function | None = None, *, fastmath: set[str] | bool = False, inline: bool = False) -> Any:
    """Decorator. `fastmath=REORDER` for reductions whose last bit does not matter; without it arithmetic is as written. `inline` for what a loop does so often
    that counting the references to the arrays it is handed would take as long as the work itself."""
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
    except RuntimeError:  # no folder for a cache can be written: every process compiles for itself
        return numba.njit(**options)(function)


@cache
def processor_has(feature: str) -> bool:
    """Whether what is compiled may use a feature of the processor, by LLVM's name of it ("amx-bf16")."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")
