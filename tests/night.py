"""Runs jobs as an operator does, with spark-submit, and compares what they publish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyspark

from synthetic import write_log, write_overlay

REPO = Path(__file__).parents[1]
SPARK_HOME = Path(pyspark.__file__).parent
RUN_DATE = "2026-02-01"
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For short jobs on two cores: the quick compiler only, and no threads for garbage collection."""
STEPS = (
    "clean",
    *[f"backtest {stage}" for stage in ("split", "baselines", "features", "train", "score", "evaluate")],
    *[f"release {stage}" for stage in ("split", "baselines", "features", "train", "score", "evaluate", "publish")],
)
"""The stages of a night in order, named as in the log."""


@dataclass(frozen=True)
class Night:
    """A finished night: its raw log, its overlay and its root."""

    data: Path
    overlay: Path
    root: Path

    @classmethod
    def make(cls, folder: Path) -> Night:
        """Run a night in `folder`, or return the one that has finished there."""
        night = cls(folder / "data", folder / "night.yaml", folder / "root")
        if not (night.root / "top_n").exists():
            write_overlay(night.overlay, root=night.root, data=write_log(night.data))
            result = run("nightly", night.overlay)
            assert result.returncode == 0, result.stdout
        return night

    def copy(self, folder: Path, *, until: str | None = None) -> Night:
        """Copy the night to another root, in its state before the step `until` began. None: its final state."""
        root = folder / "root"
        shutil.copytree(self.root, root)
        if until:
            for step in STEPS[STEPS.index(until) :]:
                shutil.rmtree(root / "runs" / RUN_DATE / Path(*step.split()))
            shutil.rmtree(root / "top_n")
        if until == STEPS[0]:
            shutil.rmtree(root / "index")
        return Night(self.data, write_overlay(folder / "night.yaml", root=root, data=self.data), root)


def command(job: str, overlay: Path, *arguments: str, submit: tuple[str, ...] = ("--master", "local[2]")) -> list[str]:
    """Return the command line of a job of this checkout."""
    return [
        str(SPARK_HOME / "bin" / "spark-submit"), "--driver-java-options", JAVA_OPTIONS, *submit,
        str(REPO / "jobs" / f"{job}.py"), "--config", str(overlay), "--run-date", RUN_DATE, *arguments,
    ]  # fmt: skip


def environment(python: str = sys.executable, **more: str) -> dict[str, str]:
    """Return the environment of a job. Each process gets one thread for arithmetic, because tests run on two cores."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_", "PYTHON"))}
    return {
        **base,
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def run(job: str, overlay: Path, *arguments: str, timeout: int = 300, **options) -> subprocess.CompletedProcess:
    """Run a job to its end. `.stdout` holds its stdout and stderr."""
    env = options.pop("env", None) or environment()
    return subprocess.run(
        command(job, overlay, *arguments, **options),
        env=env, cwd=overlay.parent, text=True, timeout=timeout, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def recsys(*arguments: str) -> subprocess.CompletedProcess:
    """Run the command `recsys`. `.stdout` holds its stdout and stderr."""
    command = [str(Path(sys.executable).with_name("recsys")), *arguments]
    return subprocess.run(command, cwd=REPO, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def published(root: Path):
    """Return the published table as a pandas frame, ordered by user and rank. It is read without Spark."""
    import pandas as pd
    from deltalake import DeltaTable, QueryBuilder

    # to_pandas of deltalake needs a newer pyarrow than Petastorm allows
    rows = QueryBuilder().register("top_n", DeltaTable(root / "top_n")).execute("select * from top_n").read_all()
    table = pd.DataFrame({name: rows.column(name).to_pylist() for name in rows.column_names})
    return table.sort_values(["run_date", "user_id", "rank"], ignore_index=True)


def assert_same_table(one, other, rtol: float = 1e-5) -> None:
    """Assert that two published tables, as `published` returns them, are the same.

    They have the same users and ranks, and each item that both show to a user has the same source. Items may differ
    only where their scores differ by less than `rtol`, relative to the largest score of the user's list: such items may
    change places, and the last one may be another.
    """
    import numpy as np

    assert len(one) == len(other) > 0
    assert (one[["user_id", "rank"]].values == other[["user_id", "rank"]].values).all()
    for (user, mine), (_, theirs) in zip(one.groupby("user_id"), other.groupby("user_id")):
        atol = rtol * np.abs(mine["score"]).max()
        np.testing.assert_allclose(theirs["score"], mine["score"], rtol=0, atol=atol, err_msg=f"scores of user {user}")
        for left, right in ((mine, theirs), (theirs, mine)):
            rows = right.set_index("item_id")
            for row in left.itertuples():
                expected = rows["score"].get(row.item_id, right["score"].min())
                assert abs(row.score - expected) <= atol, (
                    f"user {user}, item {row.item_id}: {row.score}, not {expected}"
                )
                assert rows["source"].get(row.item_id, row.source) == row.source, f"source of {user}, {row.item_id}"
