"""Measures HR@10 and NDCG@10 on MovieLens-1M by the protocol of the papers on sequential recommendation.

    python benchmarks/sequential.py [--conf conf/movielens.yaml] [spark-submit options …]

The last item of each user is the test item, and the one before it is the validation item. All items of the 5-core are
ranked except those of the history. Every rating counts. Half of the ratings share their second with another one of the
same user. Here such ties are in the order of the file. The job itself breaks them at random for each user, which is
harder to predict (docs/benchmarks/night.md). The backtest of jobs/nightly.py chooses all settings on validation data.
A row of docs/benchmarks/quality.md records the test figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from harness import BENCH, REPO
from quality import RUN, note, run_night

from recsys_spark.columns import BACKTEST, FUSED
from recsys_spark.storage.layout import Layout

DATA = REPO / "build" / "data" / "demo" / "events.csv"
K = "10"
MARK = "<!-- sequential: end -->"


def put_events(source: Path, path: Path) -> None:
    """Write the log with times in milliseconds that keep the order of the file within a user and a second."""
    events = pd.read_csv(source, dtype=str)
    place = events.groupby(["user_id", "timestamp"], sort=False).cumcount()
    events["timestamp"] = events["timestamp"].astype("int64") * 1000 + place
    path.parent.mkdir(parents=True, exist_ok=True)
    events[["user_id", "item_id", "timestamp"]].to_csv(path, index=False)


def figures(layout: Layout) -> dict[str, tuple[float, float]]:
    """Return (HR@10, NDCG@10) of the blend and of each model."""
    path = layout.table("evaluate", BACKTEST, "metrics.json")
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    accuracy = metrics["accuracy"]
    names = [FUSED, *(name for name in metrics["models"] if name != FUSED)]
    return {name: (accuracy[name][K]["hit_rate"]["mean"], accuracy[name][K]["ndcg"]["mean"]) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf", type=Path, default=REPO / "conf" / "movielens.yaml")
    arguments, options = parser.parse_known_args()
    folder = BENCH / "sequential"
    put_events(DATA, folder / "events.csv")
    root = folder / "root"
    seconds = run_night(arguments.conf, root, folder / "events.csv", options, "--pass", BACKTEST)
    by_model = figures(Layout(root, RUN))
    note(MARK, arguments.conf.stem, seconds, by_model)
    for name, (hit_rate, ndcg) in by_model.items():
        print(f"{name:12} HR@{K} {hit_rate:.4f}  NDCG@{K} {ndcg:.4f}")
    print(f"backtest {seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
