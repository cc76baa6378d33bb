"""Tables and roots that version 0.1.0 wrote: this version publishes the same table, and continues the root."""

import json
import tarfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from night import RUN_DATE, assert_same_table, published, recsys, run
from synthetic import write_log, write_overlay

DATA = Path(__file__).parent / "data"
OLD_DATE = "2026-01-14"
FORMER_NAMES = {"item_cosine": "item_knn", "user_cosine": "user_knn"}
WARM_START = "baselines.als.warm_iterations=2"
BASELINES_ONLY = ("--set", "train.enabled=false", "--set", "score.drop=false")


def test_a_night_of_baselines_publishes_the_table_of_version_0_1_0(tmp_path):
    data = write_log(tmp_path / "data")
    overlay = write_overlay(tmp_path / "night.yaml", root=tmp_path / "root", data=data)
    done = run("nightly", overlay, *BASELINES_ONLY)
    assert done.returncode == 0, done.stdout
    golden = pd.read_csv(DATA / "golden-baselines.csv", dtype={"user_id": str, "item_id": str})
    golden["source"] = golden["source"].replace(FORMER_NAMES)
    assert_same_table(golden, published(tmp_path / "root"))


def index(root, name):
    """The dense ids of the users or items by external id."""
    rows = pd.concat(pq.read_table(file).to_pandas() for file in sorted((root / "index" / name).rglob("*.parquet")))
    return dict(rows[[f"{name[:-1]}_id", f"{name[:-1]}_idx"]].itertuples(index=False))


@pytest.fixture(scope="module")
def old_root(tmp_path_factory):
    """A root with a night of version 0.1.0: index, published table, manifests, and all that the next night reads."""
    root = tmp_path_factory.mktemp("old") / "root"
    with tarfile.open(DATA / "root-0.1.0.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root


def test_the_root_of_version_0_1_0_is_continued(old_root, tmp_path):
    root, folder = old_root, old_root.parent
    ids = {name: index(root, name) for name in ("users", "items")}
    old_night = published(root)
    overlay = write_overlay(folder / "night.yaml", root=root, data=write_log(folder / "data", n_users=100, n_items=48))
    done = run("nightly", overlay, *BASELINES_ONLY, "--set", WARM_START)
    assert done.returncode == 0, done.stdout
    baselines = json.loads((root / "runs" / RUN_DATE / "release" / "baselines" / "manifest.json").read_text())
    assert baselines["inputs"]["als_start"].startswith(f"{OLD_DATE} ")
    for name, known in ids.items():
        now = index(root, name)
        assert len(now) > len(known) and now.items() >= known.items()
    table = published(root)
    assert table[table["run_date"].astype(str) == OLD_DATE].reset_index(drop=True).equals(old_night)
    assert table["run_date"].astype(str).value_counts().to_dict() == {OLD_DATE: 460, RUN_DATE: 5 * 102}
    for run_date in (OLD_DATE, RUN_DATE):
        checked = recsys("check", str(root), "--run-date", run_date)
        assert checked.returncode == 0, checked.stdout
        assert f"night {run_date}" in checked.stdout and checked.stdout.count("\nok ") == 14
    for run_id in (OLD_DATE, RUN_DATE):
        shown = recsys("show", str(root), "--run-id", run_id)
        assert shown.returncode == 0 and f"Run {run_id}: " in shown.stdout, shown.stdout
