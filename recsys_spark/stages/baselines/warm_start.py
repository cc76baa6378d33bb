"""Last night's item vectors, which tonight's ALS may start from.

Only the release pass does: its model has seen all events up to its night, so a backtest that started from it would know its own answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys_spark.columns import ALS, BACKTEST, RELEASE
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout


@dataclass(frozen=True)
class WarmStart:
    """A release ALS model of an earlier night: the run that made it, its `output_id`, and its folder."""

    run_id: str
    output_id: str
    folder: Path

    def items(self) -> np.ndarray:
        """float32 [I', F], memory-mapped. Item ids are only ever added to, so its rows are the first rows of tonight's."""
        return np.load(self.folder / "items.npy", mmap_mode="r")


def last_night(layout: Layout, cutoff: str, factors: int) -> WarmStart | None:
    """Of the runs whose cut-off (ISO 8601, as the clean stage's manifest has it) is before `cutoff` the latest that has a model of so many
    factors. It does not depend on when runs were made, so a run that is made again finds the same."""
    found = []
    for folder in layout.run.parent.iterdir():
        run = Layout(layout.root, folder.name)
        clean = manifest.read(run.stage("clean", BACKTEST))
        baselines = manifest.read(run.stage("baselines", RELEASE))
        if not clean or not baselines or clean.settings["cutoff"] >= cutoff:
            continue
        if ALS in baselines.settings["models"] and baselines.settings["als"]["factors"] == factors:
            model = WarmStart(run.run_id, baselines.output_id, run.table("baselines", RELEASE, ALS))
            found.append((clean.settings["cutoff"], run.run_id, model))
    return max(found, key=lambda entry: entry[:2])[2] if found else None
