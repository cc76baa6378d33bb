"""Hashes that depend on a value alone: no partition, batch or task changes them.

`digest` names a JSON value. `hash64` samples users and items: it equals Spark's `xxhash64` of a bigint column.
`mix` is a generator's mixing step, for random bits that depend on a row's number.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_SEED = np.uint64(42)
"""The seed that Spark uses."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def digest(value: Any) -> str:
    """Return a short stable hash of a JSON value, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash64(values: np.ndarray) -> np.ndarray:
    """Return int64 hashes of whole numbers: XXH64 of their eight bytes, equal to `pyspark.sql.functions.xxhash64`.

    Source: Yann Collet, xxHash specification, XXH64 for inputs shorter than 32 bytes.
    """
    with np.errstate(over="ignore"):
        state = _SEED + _P5 + np.uint64(8)
        lane = _rotate(np.asarray(values).astype(np.int64).view(np.uint64) * _P2, 31) * _P1
        state = _rotate(state ^ lane, 27) * _P1 + _P4
        state = (state ^ (state >> np.uint64(33))) * _P2
        state = (state ^ (state >> np.uint64(29))) * _P3
    return np.asarray(state ^ (state >> np.uint64(32))).view(np.int64)


def mix(states: np.ndarray) -> np.ndarray:
    """Return uint64: the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection."""
    z = states.astype(np.uint64) + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return uint64 pseudo-random bits, one word for each whole number: the sequence of SplitMix64 from state 0."""
    return mix(numbers.astype(np.uint64) * _GOLDEN)


def _rotate(words: np.ndarray, bits: int) -> np.ndarray:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))
