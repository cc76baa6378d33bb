"""Writes a small synthetic event log with known user preferences, for tests that run whole nights."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

TASTES = 3


def write_log(folder: Path, *, n_users: int = 90, n_items: int = 45, events: int = 14, seed: int = 3) -> Path:
    """Write events.csv, items.csv and users.csv into `folder`. Some events are invalid.

    User u prefers the items of taste u % 3: four of five events are on them.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for user in range(n_users):
        preferred = [i for i in range(n_items) if i % TASTES == user % TASTES]
        others = [i for i in range(n_items) if i % TASTES != user % TASTES]
        items = [*rng.choice(preferred, events - events // 5, False), *rng.choice(others, events // 5, False)]
        for day, item in enumerate(rng.permutation(items)):
            rows.append((f"u{user}", f"i{item}", "view", f"2026-01-{1 + day:02d}T{user % 24:02d}:00:00Z"))
    invalid = [
        ("", "i1", "view", rows[0][3]),
        ("u1", "i1", "wink", rows[0][3]),
        ("u1", "i1", "view", "soon"),
        rows[0],
    ]
    _write(folder / "events.csv", ["user_id", "item_id", "event_type", "timestamp"], [*rows, *invalid])
    _write(
        folder / "items.csv",
        ["item_id", "title", "category"],
        [(f"i{i}", f"Item {i}", f"taste {i % TASTES}") for i in range(n_items)],
    )
    _write(folder / "users.csv", ["user_id", "club"], [(f"u{u}", f"club {u % 2}") for u in range(n_users + 2)])
    return folder


def _write(path: Path, header: list[str], rows: list[tuple]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


OVERLAY = """\
paths: {{root: {root}, events: {data}/events.csv, items: {data}/items.csv, users: {data}/users.csv}}
session:
  shuffle_partitions: 2
  options: {{spark.ui.enabled: "false", spark.driver.host: 127.0.0.1, spark.driver.bindAddress: 127.0.0.1}}
clean:
  columns: {{event_type: event_type}}
  user_columns: {{attributes: [club]}}
  segment_by: [club]
baselines:
  tasks: 2
  als: {{factors: 8, iterations: 4}}
  models: [popularity, als, item_knn, item_ridge, user_knn, svd, content]
  item_knn: {{neighbours: 20}}
  item_ridge: {{neighbours: 10, regularization: 1.0}}
  svd: {{factors: 8}}
  content: {{max_term_share: 0.5}}
features: {{history_length: 8, row_groups: 2, min_category_items: 2}}
train: {{workers: 2, dimension: 16, hidden: 16, epochs: 3, batch_size: 64, full_softmax_items: 1000}}
score: {{top_n: 5, candidates: 15, partitions: 2}}
evaluate: {{cutoffs: [5], gate_k: 5, bootstrap_samples: 100, gates: {{max_drop_below_best_baseline: 0.2}}}}
"""


def write_overlay(path: Path, *, root: Path, data: Path) -> Path:
    """Write the overlay of a small night on the folder of `write_log`, with two training workers; return its path."""
    path.write_text(OVERLAY.format(root=root, data=data), encoding="utf-8")
    return path
