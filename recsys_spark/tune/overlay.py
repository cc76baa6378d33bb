"""best.yaml: the overlay that the search started from, with the best settings that were found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recsys_spark.columns import FUSED
from recsys_spark.tune.search import Found


def write(path: Path, tree: Mapping[str, Any], head: Sequence[str]) -> None:
    """Write `tree` behind the comment lines `head`, so that `path` holds either the old content or the new."""
    text = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text("".join(f"# {line}\n" for line in head) + text, encoding="utf-8")
    temporary.replace(path)


def best_values(found: Sequence[Found]) -> dict[str, Any]:
    """The best settings of each group, by dotted key."""
    return {key: value for each in found for key, value in each.best.values.items()}


def head(found: Sequence[Found], *, overlay: Path, date: str, k: int, users: int) -> list[str]:
    """What there is to say of a search, a line a model."""
    together = any(each.group.model == FUSED for each in found)
    of = (
        "the users whom the fusion is learned on (score.fusion_users), all models together, each user by trees and weights that were learned on others"
        if together
        else f"{users:,} users' valid items, each model alone"
    )
    return [
        f"{overlay} with the settings that a search found (python -m recsys_spark.tune), {date} UTC",
        f"NDCG@{k} of {of}; the test items were not looked at",
        *map(line, found),
    ]


def line(found: Found) -> str:
    """What a group's search has come to."""
    others = [f"{n} {word}" for n, word in ((found.pruned, "stopped early"), (found.failed, "failed")) if n]
    trials = len(found.tried) + found.pruned + found.failed
    aside = f" ({', '.join(others)})" if others else ""
    gain = f"NDCG {found.start.ndcg:.4f} -> {found.best.ndcg:.4f}"
    return (
        f"{found.group.model}: {gain}, {trials} trial{'s' * (trials != 1)}{aside} in {found.seconds / 60:.1f} minutes"
    )
