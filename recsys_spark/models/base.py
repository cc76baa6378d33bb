"""The interface of every item model, and its form on disk.

A model holds item-side state only. A user is scored from their history: `encode` turns a batch of histories into the
model's view of the users, and `score_tile` and `score_items` turn that view into scores. No user is stored.

On disk an item model is a folder: `header.json` (kind, number of items, parameters, checksums) and one `.npy` file an
array. Arrays are opened memory-mapped, so all Python workers of a machine share one copy. Nothing is pickled.

Shapes:  B users of a batch · I items, counting the padding item 0 · C candidates of a user
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from recsys_spark.errors import InputUnreadable
from recsys_spark.models.histories import Histories

HEADER = "header.json"
_CELLS = 1 << 22
"""Scores that a sparse model holds as a dense block at a time: 16 MiB."""


class ItemModel(ABC):
    """A recommender that scores users from their histories alone."""

    kind: ClassVar[str]
    needs_history: ClassVar[bool] = True
    """False for a model that can serve a user without history."""

    def __init__(self, n_items: int, parameters: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.n_items = n_items
        self.parameters = parameters
        self.arrays = arrays

    @abstractmethod
    def encode(self, histories: Histories) -> Any:
        """Return the model's view of B users. Its rows can be sliced: `encoded[start:stop]` is a part of the batch."""

    @abstractmethod
    def score_tile(self, encoded: Any, start: int, stop: int) -> np.ndarray:
        """Return float32 [B, stop - start], the scores of the items start:stop. The column of item 0 means nothing."""

    @abstractmethod
    def score_items(self, encoded: Any, items: np.ndarray) -> np.ndarray:
        """Return float32 [B, C], the scores of each user's own `items` int32 [B, C]."""

    @abstractmethod
    def explain(self, histories: Histories, encoded: Any, items: np.ndarray) -> np.ndarray:
        """Return int32 [B, C]: the history item that contributed most to the score of each of `items` int32 [B, C].

        The items of a user are distinct and not in the history; 0 stands for no item. Where a score is a sum over
        history items, contributions are its terms. Of equal contributions the newest item wins. The result is 0 where
        no history item raised the score. `encoded` is `encode(histories)`.
        """


class SparseModel(ItemModel):
    """A model whose scores are zero for most items."""

    @abstractmethod
    def sparse_scores(self, encoded: Any) -> sp.csr_matrix:
        """Return float32 [B, I], the scores that are not zero."""

    def users_at_once(self) -> int:
        """Return how many users to score at a time, so that their scores take little memory."""
        return max(1, _CELLS // self.n_items)

    def score_tile(self, encoded: Any, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.sparse_scores(encoded)[:, start:stop].toarray())

    def score_items(self, encoded: Any, items: np.ndarray) -> np.ndarray:
        check_items(items, self.n_items)
        scores = np.empty(items.shape, np.float32)
        step = self.users_at_once()
        for start in range(0, len(items), step):
            rows = slice(start, start + step)
            dense = self.sparse_scores(encoded[rows]).toarray()
            scores[rows] = np.take_along_axis(dense, items[rows], axis=1)
        return scores


def check_items(items: np.ndarray, n_items: int) -> None:
    """Raise `ValueError` when one of `items` is not an item of the model."""
    if items.size and not 0 <= items.min() <= items.max() < n_items:
        raise ValueError(f"items {items.min()}..{items.max()} are not all in the table of {n_items} items")


def save(folder: Path, model: ItemModel) -> None:
    """Write `model` to `folder`, whole or not at all. An existing folder is replaced."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    sums = {}
    for name, array in sorted(model.arrays.items()):
        np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        sums[name] = _checksum(array)
    header = {"kind": model.kind, "n_items": model.n_items, "parameters": model.parameters, "arrays": sums}
    (temporary / HEADER).write_text(json.dumps(header, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _checksum(array: np.ndarray) -> str:
    """Return the SHA-256 of type, shape and content."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_header(folder: Path) -> dict[str, Any]:
    """Return the header of the item model in `folder`. The header's bytes identify the model's version."""
    try:
        header = dict(json.loads((folder / HEADER).read_text(encoding="utf-8")))
        missing = {"kind", "n_items", "parameters", "arrays"} - header.keys()
        if missing:
            raise ValueError(f"{HEADER} lacks {', '.join(sorted(missing))}")
        return header
    except (OSError, ValueError, TypeError) as error:
        raise InputUnreadable(
            f"{folder} is not an item model: {error}; run the stage that writes it again with --force"
        ) from error


def load(folder: Path, kinds: dict[str, type[ItemModel]]) -> ItemModel:
    """Return the item model in `folder`, its arrays memory-mapped. `kinds` maps the header's kind to its class."""
    header = read_header(folder)
    if header["kind"] not in kinds:
        raise InputUnreadable(f"{folder}/{HEADER}: kind {header['kind']!r} is not one of {', '.join(sorted(kinds))}")
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in header["arrays"]}
    except (OSError, ValueError, EOFError) as error:  # EOFError: an empty file
        raise InputUnreadable(f"{folder}: {error}; run the stage that writes it again with --force") from error
    return kinds[header["kind"]](header["n_items"], header["parameters"], arrays)
