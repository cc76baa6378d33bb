"""Numbers without pattern that depend on nothing but a number: for choices and signs that no block or task may change."""

from __future__ import annotations

import numpy as np


def mixed(numbers: np.ndarray) -> np.ndarray:
    """uint64 of the shape of `numbers` (whole numbers from 0): another for each, its bits like thrown coins.

    The output function of SplitMix64 at the states number * golden ratio (Steele, Lea and Flood, OOPSLA 2014); each step can be undone, so no
    two numbers share one.
    """
    z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
