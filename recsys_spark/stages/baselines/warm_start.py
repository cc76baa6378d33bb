"""The item vectors of an earlier night, which ALS may start from in the release.

The model of the earlier release has seen all events up to its night. A backtest that started from it would know the
answers, so it never does.
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
    """The ALS model of the release of an earlier night: its run, its `output_id` and its folder."""

    run_id: str
    output_id: str
    folder: Path

    def items(self) -> np.ndarray:
        """Return float32 [I', F], memory-mapped. Item ids are never reused, so its rows are tonight's first rows."""
        return np.load(self.folder / "items.npy", mmap_mode="r")


def last_night(layout: Layout, cutoff: str, factors: int) -> WarmStart | None:
    """Return the latest model with `factors` factors of a run whose cut-off (ISO 8601) is before `cutoff`.

    The result does not depend on when runs were made, so a repeated run gets the same.
    """
    models = []
    for run in layout.all_runs():
        # version 0.1.0 kept the clean stage in the folder of a pass
        clean = manifest.read(run.stage("clean")) or manifest.read(run.stage("clean", BACKTEST))
        baselines = manifest.read(run.stage("baselines", RELEASE))
        if not clean or not baselines or clean.settings["cutoff"] >= cutoff:
            continue
        if ALS in baselines.settings["models"] and baselines.settings["als"]["factors"] == factors:
            model = WarmStart(run.run_id, baselines.output_id, run.table("baselines", RELEASE, ALS))
            models.append((clean.settings["cutoff"], run.run_id, model))
    return max(models, key=lambda entry: entry[:2])[2] if models else None
