"""Synthetic histories with a known next item, as arrays for the loop and as a features folder for the workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from factories import put_table
from recsys_spark.models.histories import Histories
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.two_tower import TwoTower
from recsys_spark.stages.features.examples import Examples, make_examples, shuffle_timeless
from recsys_spark.stages.train.job_file import Job, TrainSettings
from recsys_spark.stages.train.plan import Plan
from recsys_spark.stages.train.validation_set import ValidationSet
from recsys_spark.storage import contract

SETTINGS = TrainSettings(
    encoder="mlp",
    dimension=8,
    neighbours=0,
    hidden=16,
    layers=1,
    attention_heads=2,
    dropout=0.0,
    kl_weight=0.2,
    warm_epochs=None,
    minutes=None,
    patience=50,
    batch_size=64,
    learning_rate=0.02,
    warmup_epochs=0.5,
    weight_decay=0.0,
    temperature=0.2,
    negatives=16,
    full_softmax_items=1000,
    metric_k=5,
    valid_users=1000,
    mixed_precision=True,
    seed=3,
)


def circle(n_users: int = 120, n_items: int = 24, steps: int = 8) -> tuple[Histories, list[int]]:
    """Return (histories, next items) of users who walk round a circle of items, one step a minute.

    Only the order tells the next item: it follows the last one.
    """
    starts = [u % n_items for u in range(n_users)]
    lists = [[1 + (start + step) % n_items for step in range(steps)] for start in starts]
    times = [[60 * (1 + step) for step in range(steps)] for _ in starts]
    return Histories.of(lists, times), [1 + (start + steps) % n_items for start in starts]


def validation_set(histories: Histories, next_items: list[int]) -> ValidationSet:
    return ValidationSet(histories, np.arange(len(next_items) + 1), np.array(next_items, np.int32))


def examples_of(histories: Histories, length: int, kind: str = "targets") -> Examples:
    """Return every example of the histories in random order. Kind `users` has only the newest of each user."""
    first = {"targets": lambda n: 1, "users": lambda n: max(1, n - 1)}[kind]
    pairs = [(u, p) for u, n in enumerate(histories.lengths()) for p in range(first(n), n)]
    order = np.random.default_rng(0).permutation(len(pairs))
    rows, positions = np.array(pairs)[order].T
    shuffled = shuffle_timeless(histories, np.arange(len(histories)), seed=1)
    (examples,) = make_examples(shuffled, rows, positions, length)
    return examples


def batches_of(examples: Examples, size: int):
    """Return a feed from memory. It drops the remainder, and the epoch is the seed of the order."""

    def batches(epoch: int):
        order = np.random.default_rng(epoch).permutation(len(examples.items))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield {
                "item_idx": torch.from_numpy(examples.items[rows]),
                "history": torch.from_numpy(examples.history[rows]),
                "recency": torch.from_numpy(examples.recency[rows]),
            }

    return batches


def make_network(
    n_items: int,
    length: int,
    sparse: bool = False,
    dropout: float = 0.0,
    n_features: int = 0,
    **architecture: Any,
) -> TwoTower:
    torch.manual_seed(0)
    shape = {"dimension": 8, "hidden": 16, "heads": 2, **architecture}
    return TwoTower(Architecture(n_items, n_features, length, **shape), dropout=dropout, sparse=sparse)


def make_plan(epochs: int, steps: int, *, decay_epochs=None, seconds=None, warm=False, **settings) -> Plan:
    return Plan(replace(SETTINGS, **settings), epochs, decay_epochs or epochs, steps, seconds, warm)


def bytes_of(matrix: np.ndarray, kind) -> list[bytes]:
    """Return each row as the examples table has it."""
    return [row.astype(kind).tobytes() for row in matrix]


def write_features(
    folder: Path,
    histories: Histories,
    next_items: list[int],
    *,
    n_items: int,
    length: int,
    row_groups: int,
    kind: str = "targets",
) -> int:
    """Write a features folder like the features stage, with one content feature. Return the rows of examples."""
    examples = examples_of(histories, length, kind)
    size = len(examples.items) // row_groups
    (folder / "examples").mkdir(parents=True)
    for group in range(row_groups):
        part = slice(group * size, (group + 1) * size)
        columns = [
            np.arange(len(examples.items))[part], examples.items[part], examples.weights[part],
            bytes_of(examples.history[part], np.int32), bytes_of(examples.recency[part], np.uint8),
        ]  # fmt: skip
        data = pa.table(columns, schema=contract.load("examples").arrow_schema())
        pq.write_table(data, folder / "examples" / f"part-{group}.parquet")
    rows = [
        {"user_idx": u, "item_idx": h.items, "event_ts": h.times, "weight": h.weights, "as_of": as_of}
        for as_of in ("valid", "test")
        for u, h in enumerate(histories.batches(1))
    ]
    put_table(folder / "histories", "histories", rows)
    put_table(
        folder / "positives",
        "positives",
        [{"user_idx": u, "item_idx": [i], "as_of": "valid"} for u, i in enumerate(next_items)],
    )
    counts = np.bincount(histories.items, minlength=n_items)
    put_table(
        folder / "item_counts",
        "item_counts",
        [{"item_idx": i, "count": c} for i, c in enumerate(counts.tolist()) if c],
    )
    put_table(
        folder / "item_features",
        "item_features",
        [{"item_idx": i, "features": [0]} for i in range(1, n_items, 2)],
    )
    return size * row_groups


def make_job(
    features: Path,
    output: Path,
    *,
    examples: int,
    n_items: int,
    length: int,
    epochs: int,
    validate: bool = True,
    kind: str = "targets",
    **settings,
) -> Job:
    output.mkdir(parents=True, exist_ok=True)
    return Job(
        features=features,
        output=output,
        checkpoints=output / "checkpoints" / "x",
        weights=None,
        start=None,
        neighbours=None,
        examples=examples,
        kind=kind,
        n_items=n_items,
        n_features=1,
        history_length=length,
        epochs=epochs,
        decay_epochs=epochs,
        validate=validate,
        settings=replace(SETTINGS, **settings),
    )
