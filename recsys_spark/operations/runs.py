"""Finds the run that an operator asks about."""

from __future__ import annotations

from pathlib import Path

from recsys_spark.columns import RELEASE
from recsys_spark.errors import InputMissing
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout


def finished_run(root: Path, stage: str, run_id: str | None = None) -> Layout:
    """Return the run `run_id`, or the run that finished `stage` of the release last. `InputMissing` when none has."""
    runs = [run for run in Layout(root, "").all_runs() if run_id in (None, run.run_id)]
    finished = [(m.finished_at, run.run_id, run) for run in runs if (m := manifest.read(run.stage(stage, RELEASE)))]
    if not finished:
        subject = f"run {run_id!r}" if run_id else "no run"
        state = "has not finished" if run_id else "has finished"
        raise InputMissing(
            f"{subject} {state} its {stage} stage under {root / 'runs'}. Run jobs/nightly.py with this paths.root"
        )
    return max(finished)[2]
