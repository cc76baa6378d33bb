"""Measures Recall@20 and NDCG@20 of the published table and of each model on a public split (`make bench-quality`).

    python benchmarks/quality.py [--split ../shared/data/gowalla] [--conf conf/gowalla.yaml] [spark-submit options …]

The split is a folder with train.txt.gz and test.txt.gz, whose lines are `user item item …`. The training part becomes a
CSV, and jobs/nightly.py runs on it as on any log. All settings are chosen on data that the night holds out of it. The
test part is read once, after the table is published. All items are ranked except the user's training items. Recall is
hits / |test|, and NDCG has the ideal of min(20, |test|) hits. A row of docs/benchmarks/quality.md records the figures.

Shapes:  B users with test items · P test items of all users
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
from harness import BENCH, REPO, output_lines, submit

from recsys_spark import registry
from recsys_spark.columns import FUSED, ITEM_ID, ITEM_IDX, PADDING_ITEM, RANK, RELEASE, USER_ID, USER_IDX
from recsys_spark.config.load import load
from recsys_spark.metrics.ranking import hit_matrix, user_metrics
from recsys_spark.models.histories import Histories
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage import tables
from recsys_spark.storage.layout import Layout
from recsys_spark.topk import Exclusions, top_k

K = 20
USERS = 1024
"""Number of users that are scored at once."""
PAGE = REPO / "docs" / "benchmarks" / "quality.md"
LOOKS = "<!-- looks: end -->"
RUN = "bench"


def read_split(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (users, items), both int64 [P], of a file with lines `user item item …`."""
    users, items = [], []
    with gzip.open(path, "rt") as file:
        for line in file:
            numbers = np.array(line.split(), np.int64)
            users.append(np.repeat(numbers[:1], len(numbers) - 1))
            items.append(numbers[1:])
    return np.concatenate(users), np.concatenate(items)


def put_events(split: Path, path: Path) -> None:
    """Write the training part as a CSV with the header user_id,item_id."""
    users, items = read_split(split / "train.txt.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    csv.write_csv(pa.table({USER_ID: users, ITEM_ID: items}), path)


def run_night(conf: Path, root: Path, events: Path, options: list[str], *arguments: str) -> float:
    """Run jobs/nightly.py with `arguments` under `root`, which is emptied first, and return the seconds."""
    shutil.rmtree(root, ignore_errors=True)
    clock = time.monotonic()
    process = submit(
        "nightly", "--config", conf, "--run-id", RUN, "--set", f"paths.root={root}", "--set", f"paths.events={events}",
        *arguments, memory="4g", options=options,
    )  # fmt: skip
    for _ in output_lines(process):
        pass
    return time.monotonic() - clock


class Test:
    """The test part: users int64 [B] (user_idx, ascending), indptr int64 [B + 1], items int32 [P]."""

    def __init__(self, split: Path, layout: Layout):
        users, items = read_split(split / "test.txt.gz")
        users = _indices(layout, "users", (USER_ID, USER_IDX), users)
        items = _indices(layout, "items", (ITEM_ID, ITEM_IDX), items)
        self.users, counts = np.unique(users, return_counts=True)
        self.indptr = np.concatenate([[0], np.cumsum(counts)])
        self.items = items[np.lexsort((items, users))].astype(np.int32)

    def metrics(self, lists: np.ndarray) -> dict[str, float]:
        """Return recall and NDCG of lists int32 [B, K] in order of rank, padded with 0."""
        hits = hit_matrix(lists[:, None], self.indptr, self.items)
        by_user = user_metrics(hits, np.diff(self.indptr), K)
        return {name: float(by_user[name].mean()) for name in ("recall", "ndcg")}


def _indices(layout: Layout, table: str, names: tuple[str, str], ids: np.ndarray) -> np.ndarray:
    """Return the dense index of each external id. -1: the training part does not have it, so no list has it."""
    known = tables.read_arrow(layout.clean_table(table), table, list(names))
    places = pc.index_in(pa.array(ids).cast(pa.string()), known[names[0]].combine_chunks())
    indices = np.append(known[names[1]].to_numpy(), -1)
    return np.asarray(indices[places.fill_null(len(indices) - 1).to_numpy()])


def published(layout: Layout, test: Test) -> np.ndarray:
    """Return int32 [B, K], the lists of the published table, as a consumer reads them."""
    night = delta.night(layout.top_n)
    table = ds.dataset(list(map(str, night.files))).to_table([USER_ID, ITEM_ID, RANK])
    users = _indices(layout, "users", (USER_ID, USER_IDX), table[USER_ID].to_numpy(zero_copy_only=False))
    items = _indices(layout, "items", (ITEM_ID, ITEM_IDX), table[ITEM_ID].to_numpy(zero_copy_only=False))
    ranks = table[RANK].to_numpy()
    rows = np.searchsorted(test.users, users)
    tested = (test.users[np.minimum(rows, len(test.users) - 1)] == users) & (ranks <= K)
    lists = np.zeros((len(test.users), K), np.int32)
    lists[rows[tested], ranks[tested] - 1] = items[tested]
    return lists


def alone(layout: Layout, test: Test, folder: Path) -> np.ndarray:
    """Return int32 [B, K], the lists of one item model of the release."""
    model = registry.load(folder)
    banned = np.arange(model.n_items) == PADDING_ITEM
    of_test = ds.field(USER_IDX).isin(pa.array(test.users))
    table = tables.read_arrow(layout.table("features", RELEASE, "histories"), "histories", filter=of_test)
    histories = Histories.from_arrow(table.sort_by(USER_IDX).combine_chunks())
    parts = [
        top_k(model, model.encode(batch), Exclusions(banned, batch), K, 1024)[0] for batch in histories.batches(USERS)
    ]
    return np.concatenate(parts)


def released(layout: Layout, conf: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the folder of each item model of the release."""
    for name in load(conf, [f"paths.root={layout.root}", "paths.events=x"]).models:
        for stage in ("baselines", "train"):
            folder = layout.table(stage, RELEASE, name)
            if folder.is_dir():
                yield name, folder


def note(mark: str, what: str, seconds: float, figures: Mapping[str, tuple[float, float]]) -> None:
    """Add a row to the page's table that ends at `mark`: date, version, `what`, minutes, two figures a model."""
    text = PAGE.read_text(encoding="utf-8")
    version = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPO, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    listed = " · ".join(f"{name} {first:.4f}/{second:.4f}" for name, (first, second) in figures.items())
    row = f"| {date.today().isoformat()} | {version} | {what} | {seconds / 60:.1f} | {listed} |\n"
    PAGE.write_text(text.replace(mark, row + mark), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", type=Path, default=Path("../shared/data/gowalla"))
    parser.add_argument("--conf", type=Path, default=REPO / "conf" / "gowalla.yaml")
    arguments, options = parser.parse_known_args()
    name = arguments.split.name
    events = BENCH / "quality" / f"{name}.csv"
    root = BENCH / "quality" / name
    put_events(arguments.split, events)
    seconds = run_night(arguments.conf, root, events, options)
    layout = Layout(root, RUN)
    test = Test(arguments.split, layout)
    lists = {
        FUSED: published(layout, test),
        **{n: alone(layout, test, folder) for n, folder in released(layout, arguments.conf)},
    }
    result = {
        "split": name,
        "night_seconds": round(seconds, 1),
        "test": {model: test.metrics(rows) for model, rows in lists.items()},
    }
    (BENCH / f"quality-{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    note(LOOKS, name, seconds, {model: (m["recall"], m["ndcg"]) for model, m in result["test"].items()})
    for model, metrics in result["test"].items():
        print(f"{model:12} Recall@{K} {metrics['recall']:.4f}  NDCG@{K} {metrics['ndcg']:.4f}")
    print(f"night {seconds / 60:.1f} min")


if __name__ == "__main__":
    main()
