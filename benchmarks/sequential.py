"""Measures HR@10 and NDCG@10 on MovieLens-1M by the protocol of the papers on sequential recommendation.

    python benchmarks/sequential.py [--conf conf/movielens.yaml] [spark-submit options …]

The last item of each user is test and the one before it valid; all items of the 5-core are ranked but those the user
had. Every rating counts as a choice. Half of the ratings share their second with another of the same user. Here the
order of the source breaks such ties; an order of each user's own, which is what the job does by itself, is harder
(docs/benchmarks/night.md). Everything is chosen on valid by the backtest of jobs/nightly.py; its test figures are noted
in docs/benchmarks/quality.md.
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
    """The log of MovieLens-1M with times in milliseconds: the place of a rating among those of its user and second."""
    events = pd.read_csv(source, dtype=str)
    place = events.groupby(["user_id", "timestamp"], sort=False).cumcount()
    events["timestamp"] = events["timestamp"].astype("int64") * 1000 + place
    path.parent.mkdir(parents=True, exist_ok=True)
    events[["user_id", "item_id", "timestamp"]].to_csv(path, index=False)


def figures(layout: Layout) -> dict[str, tuple[float, float]]:
    """(HR@10, NDCG@10) of the blend and of each model: with one held-out item a hit is a recall of 1."""
    path = layout.table("evaluate", BACKTEST, "metrics.json")
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = metrics["accuracy"]
    names = [FUSED, *(name for name in metrics["models"] if name != FUSED)]
    return {name: (found[name][K]["hit_rate"]["mean"], found[name][K]["ndcg"]["mean"]) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf", type=Path, default=REPO / "conf" / "movielens.yaml")
    arguments, options = parser.parse_known_args()
    folder = BENCH / "sequential"
    put_events(DATA, folder / "events.csv")
    root = folder / "root"
    seconds = run_night(arguments.conf, root, folder / "events.csv", options, "--pass", BACKTEST)
    found = figures(Layout(root, RUN))
    note(MARK, arguments.conf.stem, seconds, found)
    for name, (hit_rate, ndcg) in found.items():
        print(f"{name:12} HR@{K} {hit_rate:.4f}  NDCG@{K} {ndcg:.4f}")
    print(f"backtest {seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
