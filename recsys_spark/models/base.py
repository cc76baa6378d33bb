"""The face that every item model shows, and its form on disk.

A model holds item-side state only. A user is scored from their history: `encode` turns a batch of histories into whatever the model
needs of a user, `score_tile` and `score_items` turn that into scores. Nothing about a user is stored.

On disk an item model is a folder: `header.json` (kind, number of items, parameters, checksums) and one `.npy` file an array, opened
memory-mapped, so that all Python workers of a machine share one copy. No pickles.

Shapes:  B users of a batch · I items counting the padding item 0 · C candidates a user
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

from recsys_spark.errors import InputUnreadable
from recsys_spark.models.heap import Hidden
from recsys_spark.models.histories import Histories

HEADER = "header.json"


class ItemModel(ABC):
    """A recommender that needs a user's history and nothing else."""

    kind: ClassVar[str]
    needs_history: ClassVar[bool] = True
    """False for a model that can serve a user without history."""

    def __init__(self, n_items: int, parameters: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.n_items = n_items
        self.parameters = parameters
        self.arrays = arrays

    @abstractmethod
    def encode(self, histories: Histories) -> Any:
        """The model's view of B users; passed back to `score_tile` and `score_items` as it is."""

    @abstractmethod
    def score_tile(self, encoded: Any, start: int, stop: int) -> np.ndarray:
        """float32 [B, stop - start]: scores of items start:stop for every user. Column of item 0 is meaningless."""

    @abstractmethod
    def score_items(self, encoded: Any, items: np.ndarray) -> np.ndarray:
        """float32 [B, C]: scores of the items int32 [B, C] of each user, the same whoever else is in the batch. What `score_tile` gives
        them may differ within half of `margins`."""

    @abstractmethod
    def explain(self, histories: Histories, encoded: Any, items: np.ndarray) -> np.ndarray:
        """int32 [B, C]: for each of the items int32 [B, C] of a user, none twice and none of the history (0: nothing is asked), the history item that contributed most to the
        model's score of it, the newest of equals; 0 where none contributed, that is where no history item raised the score.

        What contributed is told by the model's own arithmetic: where a score is a sum over history items, the terms of it. `encoded` is
        what `encode` gave of `histories`. The same whoever else is in the batch.
        """

    def margins(self, encoded: Any) -> np.ndarray | None:
        """float32 [B]: how far apart rounding in `score_tile` can put two items of a user whose `score_items` are equal; None: not at all."""
        return None

    def written(self) -> dict[str, np.ndarray]:
        """What `save` writes: `arrays`, and what is told by them and a task had better find than work out."""
        return self.arrays

    def rows(self, encoded: Any, start: int, stop: int) -> Any:
        """What `encode` gave for the users start:stop of the batch."""
        return encoded[start:stop]

    def top(self, encoded: Any, hidden: Hidden, m: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The m best items of each user that are not hidden, as `Best.lists` gives them, from a model that knows a quicker way than to score
        every item; None: it knows none."""
        return None


def save(folder: Path, model: ItemModel) -> None:
    """Write `model` to `folder`, all of it or nothing (a folder that exists is replaced)."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    sums = {}
    for name, array in sorted(model.written().items()):
        np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        sums[name] = _checksum(array)
    header = {"kind": model.kind, "n_items": model.n_items, "parameters": model.parameters, "arrays": sums}
    (temporary / HEADER).write_text(json.dumps(header, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _checksum(array: np.ndarray) -> str:
    """Of type, shape and content, read where it lies."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_header(folder: Path) -> dict[str, Any]:
    """The header of the item model in `folder`; its bytes are the model's version."""
    try:
        header = dict(json.loads((folder / HEADER).read_text(encoding="utf-8")))
        missing = {"kind", "n_items", "parameters", "arrays"} - header.keys()
        if missing:
            raise ValueError(f"{HEADER} lacks {', '.join(sorted(missing))}")
        return header
    except (OSError, ValueError, TypeError) as error:
        raise InputUnreadable(
            f"{folder} is not an item model: {error}; run the stage that makes it again with --force"
        ) from error


def load(folder: Path, kinds: dict[str, type[ItemModel]]) -> ItemModel:
    """The item model in `folder`, its arrays memory-mapped; `kinds` maps the header's kind to its class."""
    header = read_header(folder)
    if header["kind"] not in kinds:
        raise InputUnreadable(f"{folder}/{HEADER}: kind {header['kind']!r} is not one of {', '.join(sorted(kinds))}")
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in header["arrays"]}
    except (OSError, ValueError, EOFError) as error:  # EOFError: an empty file
        raise InputUnreadable(f"{folder}: {error}; run the stage that makes it again with --force") from error
    return kinds[header["kind"]](header["n_items"], header["parameters"], arrays)
