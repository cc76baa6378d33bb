"""The whole night on a small log, through spark-submit, as an operator runs it."""

import json
import re

import pytest

from night import RUN_DATE, assert_same_table, published, recsys, run
from synthetic import TASTES, write_overlay


@pytest.fixture
def night(finished_night):
    return finished_night


def manifest(root, *steps):
    return json.loads(root.joinpath("runs", RUN_DATE, *steps, "manifest.json").read_text())


def test_every_stage_has_its_manifest(night):
    root = night.root
    names = ["split", "baselines", "features", "train", "score"]
    steps = [
        ("clean",),
        *[("backtest", n) for n in names],
        *[("release", n) for n in names],
        ("release", "publish"),
    ]
    assert all(manifest(root, *step)["seconds"] > 0 for step in steps)


def test_rows_in_are_interactions_and_quarantine(night):
    root = night.root
    counts = manifest(root, "clean")["counts"]
    assert counts["rows_in"] == 90 * 14 + 4 == counts["interactions"] + counts["quarantined"]
    assert counts["quarantined_by_reason"] == {
        "missing_user": 1, "unknown_event_type": 1, "unparsable_time": 1, "duplicate": 1,
    }  # fmt: skip


def test_the_table_keeps_its_constraints_and_a_consumer_reads_it(night):
    root = night.root
    check = recsys("check", str(root))
    assert check.returncode == 0, check.stdout
    table = published(root)
    assert table["user_id"].nunique() == 90 + 2 and (table.groupby("user_id")["rank"].max() == 5).all()
    assert set(table.loc[table["user_id"].isin(["u90", "u91"]), "source"]) == {"popularity"}


def test_the_recommendations_follow_the_tastes(night):
    """Each user has interacted with 11 of the 15 items of their taste, so the other 4 should lead the list."""
    root = night.root
    table = published(root)
    top = table[(table["rank"] <= 3) & ~table["user_id"].isin(["u90", "u91"])]
    own = top["item_id"].str[1:].astype(int) % TASTES == top["user_id"].str[1:].astype(int) % TASTES
    assert own.mean() > 0.8  # chance is 4 of 31 unseen items


def test_the_explanations_follow_the_tastes(night):
    """Every row but popular ones names an item of the user's history; the publish stage has checked that it is one."""
    table = published(night.root)
    assert (table["because"].isna() == (table["source"] == "popularity")).all()
    explained = table.dropna(subset="because")
    alike = explained["because"].str[1:].astype(int) % TASTES == explained["item_id"].str[1:].astype(int) % TASTES
    assert len(explained) > 300 and alike.mean() > 0.7


def test_the_report_is_there(night):
    root = night.root
    page = (root / "runs" / RUN_DATE / "report.html").read_text()
    assert all(f">{word}" in page.lower() for word in ("clean", "split", "train", "score"))


def test_the_report_is_written_again_without_spark(night, tmp_path):
    night = night.copy(tmp_path)
    report = night.root / "runs" / RUN_DATE / "report.html"
    before = report.read_text()
    report.unlink()
    done = recsys("report", str(night.root))
    assert (done.returncode, done.stdout) == (0, f"{report}\n")
    headings = re.compile(r"<h[1-3].*?</h[1-3]>", re.DOTALL)
    page = report.read_text()
    assert headings.findall(page) == headings.findall(before)
    assert "unparsable time" in page and "u16" in page


def test_the_same_night_again_does_nothing(night):
    overlay, root = night.overlay, night.root
    before = sorted((root / "top_n").rglob("*"))
    again = run("nightly", overlay)
    assert again.returncode == 0, again.stdout
    assert "started" not in again.stdout and "spark:" not in again.stdout
    assert sorted((root / "top_n").rglob("*")) == before


def test_a_failed_gate_stops_the_publication(night, tmp_path):
    night = night.copy(tmp_path)
    overlay, root = night.overlay, night.root
    before = published(root)
    failed = run("nightly", overlay, "--set", "evaluate.gates.min_ndcg=0.99")
    assert failed.returncode == 12, failed.stdout
    errors = [line for line in failed.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "min_ndcg" in errors[0] and "0.99" in errors[0]
    assert published(root).equals(before)


def test_stages_one_by_one_make_the_same_table(night, tmp_path):
    overlay, root = night.overlay, night.root
    other = write_overlay(tmp_path / "night.yaml", root=tmp_path / "root", data=overlay.parent / "data")
    missing = run("score", other)
    assert missing.returncode == 9 and "jobs/" in missing.stdout
    for job in ("clean", "split", "baselines", "features", "train", "score", "evaluate", "publish"):
        result = run(job, other)
        assert result.returncode == 0, result.stdout
    assert_same_table(published(root), published(tmp_path / "root"))
