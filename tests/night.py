"""Run jobs as an operator does: spark-submit in a process of its own."""

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


STEPS = (
    "clean",
    *[f"backtest {stage}" for stage in ("split", "baselines", "features", "train", "score", "evaluate")],
    *[f"release {stage}" for stage in ("split", "baselines", "features", "train", "score", "evaluate", "publish")],
)
"""A night's stages in their order, named as in the log."""


@dataclass(frozen=True)
class Night:
    """A night that has run: its raw log, its overlay and its root."""

    data: Path
    overlay: Path
    root: Path

    @classmethod
    def make(cls, folder: Path) -> Night:
        data = write_log(folder / "data")
        overlay = write_overlay(folder / "night.yaml", root=folder / "root", data=data)
        result = run("nightly", overlay)
        assert result.returncode == 0, result.stdout
        return cls(data, overlay, folder / "root")

    def copy(self, folder: Path, *, until: str | None = None) -> Night:
        """The same night under another root, as it was before the step `until` began (None: at its end)."""
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
    """The command line of a job of this checkout."""
    config = ["--config", str(overlay), "--run-date", RUN_DATE]
    return [
        str(SPARK_HOME / "bin" / "spark-submit"),
        *submit,
        str(REPO / "jobs" / f"{job}.py"),
        *config,
        *arguments,
    ]


def environment(python: str = sys.executable, **more: str) -> dict[str, str]:
    """What a job needs in its environment; one thread of arithmetic each, for two cores."""
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
    """Run a job to its end; stdout and stderr are text, together in `.stdout`."""
    env = options.pop("env", None) or environment()
    return subprocess.run(
        command(job, overlay, *arguments, **options),
        env=env, cwd=overlay.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
    )  # fmt: skip


def recsys(*arguments: str) -> subprocess.CompletedProcess:
    """Run the command `recsys`; stdout and stderr are together in `.stdout`."""
    command = [sys.executable, "-m", "recsys_spark", *arguments]
    return subprocess.run(command, cwd=REPO, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def published(root: Path):
    """The published table as a pandas frame in (user_id, rank) order, read as a consumer without Spark reads it."""
    import pandas as pd
    from deltalake import DeltaTable, QueryBuilder

    # deltalake's own to_pandas asks for a newer pyarrow than Petastorm allows
    rows = QueryBuilder().register("top_n", DeltaTable(root / "top_n")).execute("select * from top_n").read_all()
    table = pd.DataFrame({name: rows.column(name).to_pylist() for name in rows.column_names})
    return table.sort_values(["run_date", "user_id", "rank"], ignore_index=True)


def assert_same_table(one, other, rtol: float = 1e-5) -> None:
    """Assert that two published tables, as `published` returns them, are the same.

    They have the same users and ranks, and each item that both show to a user has the same source. Items may differ only
    where their scores differ by less than `rtol`, relative to the largest score of the user's list: such items may change
    places, and the last one may be another.
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
                assert abs(row.score - expected) <= atol, f"user {user}, item {row.item_id}: {row.score}, not {expected}"
                assert rows["source"].get(row.item_id, row.source) == row.source, f"source of {user}, {row.item_id}"
