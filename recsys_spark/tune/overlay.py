"""Writes best.yaml: the overlay that the search started from, with the best settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recsys_spark.columns import FUSED
from recsys_spark.storage.manifest import write_text
from recsys_spark.tune.search import SearchResult


def write(path: Path, tree: Mapping[str, Any], comments: Sequence[str]) -> None:
    """Write `tree` below the lines `comments`."""
    text = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    write_text(path, "".join(f"# {line}\n" for line in comments) + text)


def best_values(results: Sequence[SearchResult]) -> dict[str, Any]:
    """Return the best settings of all searches by dotted key."""
    return {key: value for result in results for key, value in result.best.values.items()}


def comments(results: Sequence[SearchResult], *, overlay: Path, date: str, k: int, users: int) -> list[str]:
    """Return the lines that say how the settings were found, one line per model."""
    if any(result.space.model == FUSED for result in results):
        measure = "the fused list, cross-validated over the users of score.fusion_users"
    else:
        measure = f"each model alone on the validation items of {users:,} users"
    return [
        f"{overlay} with the best settings of a search (recsys tune), {date} UTC",
        f"NDCG@{k} of {measure}. The test items were not read",
        *map(summary, results),
    ]


def summary(result: SearchResult) -> str:
    """Return one line on the result of a search."""
    others = [f"{n} {word}" for n, word in ((result.pruned, "stopped early"), (result.failed, "failed")) if n]
    n = len(result.trials) + result.pruned + result.failed
    details = f" ({', '.join(others)})" if others else ""
    gain = f"NDCG {result.start.ndcg:.4f} -> {result.best.ndcg:.4f}"
    return f"{result.space.model}: {gain}, {n} trial{'s' * (n != 1)}{details} in {result.seconds / 60:.1f} minutes"
