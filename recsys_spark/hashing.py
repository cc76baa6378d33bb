"""Numbers without pattern that depend on nothing but a number: for choices and signs that no block or task may change."""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(states: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a well-mixed bijection of uint64, of states of any whole type."""
    z = states.astype(np.uint64) + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """uint64 of the shape of `numbers` (whole numbers from 0): another for each, its bits like thrown coins: what SplitMix64 gives one after the
    other from the state 0."""
    return mix(numbers.astype(np.uint64) * GOLDEN)
