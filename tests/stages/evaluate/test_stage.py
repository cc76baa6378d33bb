"""A small backtest and release in Spark, with results that are computed by hand."""

import json
import math

import numpy as np
import pytest

from factories import RUN_DATE, finish_stage, make_context, put_table
from recsys_spark.errors import ContractViolation, StageMissing
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.stages.evaluate import backtest, release, stage
from recsys_spark.storage import tables as store
from recsys_spark.storage.layout import Layout

SECTIONS = {
    "score": {"top_n": 3, "candidates": 3},
    "evaluate": {"cutoffs": [3, 2], "gate_k": 2, "bootstrap_samples": 50, "example_users": 4},
    "baselines": {"models": ["popularity", "als"]},
    "train": {"enabled": False},
}
# items 1 to 4; user 3 has no history and no positives; als has no list for user 2
LISTS = {
    "popularity": {0: [1, 2, 3], 1: [1, 2, 3], 2: [1, 2, 3]},
    "als": {0: [4, 1, 2], 1: [3, 2, 1]},
    "fused": {0: [4, 1, 3], 1: [3, 1, 2], 2: [1, 2, 3]},
}
POSITIVES = {0: [4], 1: [1, 2], 2: [4]}
HISTORIES = {0: [2, 3], 1: [4], 2: [2, 1, 3], 3: []}
TITLE = "<script>alert(1)</script>"


def candidates():
    return [
        {"user_idx": u, "model": m, "rank": rank, "item_idx": i, "score": 1 / rank, "source": "als"}
        for m, lists in LISTS.items()
        for u, items in lists.items()
        for rank, i in enumerate(items, 1)
    ]


def diversified():
    """Return lists of users 0 and 1 under several settings of (diversity, max_per_category)."""
    plain, diverse = {0: [4, 1, 3], 1: [1, 2, 3]}, {0: [1, 4, 3], 1: [3, 4, 1]}
    lists = {(0.1, 10): plain, (0.1, 2): diverse, (0.1, None): plain, (0.0, 2): plain, (0.2, 2): diverse}
    return [
        {"user_idx": u, "model": "fused", "diversity": diversity, "max_per_category": cap,
         "rank": rank, "item_idx": i, "score": 1 / rank, "source": "als"}
        for (diversity, cap), own in lists.items() for u, items in own.items() for rank, i in enumerate(items, 1)
    ]  # fmt: skip


def histories(as_of):
    times = {0: [86400, 172800], 1: [86400], 2: [1, 2, 3], 3: []}
    return [
        {
            "user_idx": u,
            "item_idx": i,
            "event_ts": times[u],
            "weight": [1.0] * len(i),
            "segment": None,
            "as_of": as_of,
        }
        for u, i in HISTORIES.items()
    ]


def put_run(context):
    categories = [["a", "b"], ["b"], [], ["b"]]
    items = [
        {
            "item_idx": i,
            "item_id": f"i{i}",
            "title": TITLE if i == 3 else None,
            "categories": categories[i - 1],
            "withdrawn": False,
        }
        for i in range(1, 5)
    ]
    users = [{"user_idx": u, "user_id": f"u{u}", "attributes": [("age", "<b>1</b>")]} for u in range(4)]
    bad = [
        {
            "reason": "bot_user",
            "detail": f"user {u}",
            "source_file": "/raw/e.csv",
            "row": f'{{"user": "{u}"}}',
        }
        for u in (2, 1)
    ]
    tables = {"items": ("items", items), "users": ("users", users), "quarantine": ("quarantine", bad)}
    finish_stage(
        context, "clean", None, tables, rows_in=8, interactions=6, quarantined=2, users=4, items=4,
        quarantined_by_reason={"bot_user": 2}, new_users=1, new_items=0, missing={"items.title": 3},
    )  # fmt: skip
    positives = [{"user_idx": u, "item_idx": i, "as_of": "test"} for u, i in POSITIVES.items()]
    counts = [{"item_idx": 1, "count": 3}, {"item_idx": 2, "count": 2}, {"item_idx": 3, "count": 1}]
    tables = {"histories": ("histories", histories("test")), "positives": ("positives", positives)}
    finish_stage(
        context,
        "features",
        "backtest",
        {**tables, "item_counts": ("item_counts", counts)},
        users_with_history=3,
    )
    tables = {"lists": ("candidates", candidates()), "diversity_tradeoff": ("candidates", diversified())}
    finish_stage(context, "score", "backtest", tables)
    finish_stage(context, "features", "release", {"histories": ("histories", histories("release"))})
    top = [
        {"user_id": f"u{u}", "item_id": f"i{i}", "rank": rank, "score": 1 / rank, "source": "als", "run_id": "r",
         "because": "i3" if rank == 2 else None, "model_version": "v", "run_date": RUN_DATE}
        for u in range(4) for rank, i in enumerate([3, 1], 1)
    ]  # fmt: skip
    finish_stage(context, "score", "release", {"top_n": ("top_n", top)}, rows=8, users=4, users_without_history=1)


@pytest.fixture(scope="module")
def context(spark, tmp_path_factory):
    context = make_context(tmp_path_factory.mktemp("night"), spark, **SECTIONS)
    put_run(context)
    stage.run(context, "backtest")
    stage.run(context, "release")
    return context


@pytest.fixture(scope="module")
def metrics(context):
    return json.loads(context.layout.table("evaluate", "backtest", "metrics.json").read_text())


@pytest.fixture(scope="module")
def verdict(context):
    return json.loads(context.layout.table("evaluate", "release", "verdict.json").read_text())


@pytest.fixture(scope="module")
def examples(context):
    return json.loads(context.layout.table("evaluate", "release", "examples.json").read_text())


def test_the_diversity_tradeoff_has_an_entry_for_each_setting(metrics):
    """By hand, at k = 2, for the two users with such lists; categories are 1: a b, 2: b, 3: none, 4: b."""
    entries = [dict(entry) for entry in metrics["diversity_tradeoff"]]
    settings = [(entry.pop("diversity"), entry.pop("max_per_category")) for entry in entries]
    assert settings == [(0.0, 2), (0.1, None), (0.1, 10), (0.1, 2), (0.2, 2)]
    plain, *_, diverse = entries
    assert entries == [plain, plain, plain, diverse, diverse]
    assert (plain["users"], diverse["users"]) == (2, 2)
    assert plain["ndcg"] == pytest.approx((1 + 1) / 2)
    assert diverse["ndcg"] == pytest.approx((1 / math.log2(3) + 0) / 2)
    assert plain["list_diversity"] == pytest.approx(1 - 1 / 2)  # items 4 and 1, and items 1 and 2
    assert diverse["list_diversity"] == pytest.approx(1 - 1 / 2)  # items 1 and 4; item 3 has no category
    assert (plain["coverage"], diverse["coverage"]) == (3 / 4, 3 / 4)


def test_every_user_with_positives_is_measured_on_every_model(context):
    table = store.read_arrow(context.layout.table("evaluate", "backtest", "user_metrics"), "user_metrics").to_pylist()
    keys = {(row["user_idx"], row["model"], row["k"]) for row in table}
    assert len(table) == len(keys) == 3 * 3 * 2
    found = {(row["user_idx"], row["model"], row["k"]): row for row in table}
    assert found[0, "als", 2]["ndcg"] == 1
    assert found[1, "als", 2]["ndcg"] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert found[1, "fused", 3]["recall"] == 2 / 2
    assert {found[2, "als", k][name] for k in (2, 3) for name in METRICS} == {0}


def test_metrics_are_means_over_the_users(metrics):
    assert metrics["users"] == 3
    recall = {model: metrics["accuracy"][model]["2"]["recall"]["mean"] for model in LISTS}
    expected = {"popularity": (0 + 2 / 2 + 0) / 3, "als": (1 + 1 / 2 + 0) / 3, "fused": (1 + 1 / 2 + 0) / 3}
    assert recall == pytest.approx(expected)
    assert (metrics["cutoffs"], metrics["best_baseline"], metrics["best_single"]) == ([2, 3], "als", "als")


def test_equal_models_do_not_differ(metrics):
    found = {(entry["model"], entry["against"]): entry["metrics"]["recall"] for entry in metrics["differences"]}
    assert found["fused", "als"] == {"mean": 0, "low": 0, "high": 0, "share_above": 0}
    assert set(found) == {("popularity", "als"), ("fused", "als")}


def test_beyond_accuracy(metrics):
    found = metrics["beyond_accuracy"]["popularity"]
    # three lists of items 1 and 2, which have three and two of the three users
    assert found["coverage"] == 2 / 4
    assert found["novelty"] == pytest.approx(-(math.log2(3 / 3) + math.log2(2 / 3)) / 2)
    assert found["average_popularity"] == (3 + 2) / 2
    assert found["diversity"] == pytest.approx(1 - 1 / 2)
    # als lists 4 and 1 ({b} and {a, b}), and 3 and 2, where 3 has no category
    assert metrics["beyond_accuracy"]["als"]["diversity"] == pytest.approx(1 - 1 / 2)
    assert metrics["concentration"]["log"][0] == pytest.approx([1 / 4, 3 / 6])


def test_groups_by_history(metrics):
    found = {group["group"]: group["users"] for group in metrics["groups"] if group["by"] == "history"}
    assert found == {"1": 1, "2": 1, "3": 1}


def test_popularity_bias_of_groups(metrics):
    """By hand, at k = 2. Items 1 to 4 have 3, 2, 1 and 0 users; the popular fifth of the three with users is item 1."""
    found = {(group["by"], group["group"]): group["popularity"] for group in metrics["groups"]}
    assert [name for by, name in found if by == "popularity"] == ["niche (0%)", "mixed (0%)", "mainstream (33%)"]
    # user 0 has the history 2, 3 and the list 4, 1; user 2 has the history 2, 1, 3 and the list 1, 2
    assert found["history", "2"] == found["popularity", "mixed (0%)"]
    assert (found["history", "2"]["profile"], found["history", "2"]["list"]) == ((2 + 1) / 2, (0 + 3) / 2)
    assert found["history", "2"]["lift"] == {"mean": 0, "low": 0, "high": 0}
    assert found["popularity", "mainstream (33%)"]["lift"]["mean"] == pytest.approx(((3 + 2) / 2 - 6 / 3) / (6 / 3))
    # the history of user 1 has only items that are new since training
    assert found["history", "1"] == {
        "profile": 0,
        "list": (1 + 3) / 2,
        "lift": dict.fromkeys(("mean", "low", "high")),
    }
    assert metrics["gaps"] == []  # groups of one user each


def test_the_verdict_judges_the_new_table(verdict):
    found = {gate["gate"]: gate for gate in verdict["gates"]}
    assert verdict["passed"] is True
    assert (found["every_user_served"]["value"], found["every_user_served"]["limit"]) == (4, 4)
    assert found["max_size_change"]["message"] == "not judged: 8 rows, and no earlier table to compare with"


def test_examples_hold_a_user_of_each_kind(examples):
    kinds = {user["user_id"]: user["kind"] for user in examples}
    assert kinds == {"u0": "", "u1": "shortest", "u2": "longest", "u3": "none"}
    first = next(user for user in examples if user["user_id"] == "u0")
    assert [(item["title"], item["date"]) for item in first["history"]] == [
        (TITLE, "1970-01-03"),
        ("i2", "1970-01-02"),
    ]
    assert [item["title"] for item in first["recommendations"]] == [TITLE, "i1"]
    assert [item["because"] for item in first["recommendations"]] == [None, TITLE]


def test_report_is_written_and_escaped(context):
    page = context.layout.report.read_text()
    assert TITLE not in page and "<b>1</b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{&#34;user&#34;: &#34;1&#34;}" in page  # the first of the two bad rows by its text


def test_a_finished_stage_is_skipped_unless_the_report_is_gone(context, monkeypatch):
    judged = []
    counts = release.ReleaseCounts(8, 4, 0, None)
    monkeypatch.setattr(release, "release_counts", lambda *_: judged.append(1) or counts)
    monkeypatch.setattr(release, "example_users", lambda *_: [])
    monkeypatch.setattr(release, "bad_rows", lambda *_: [])
    stage.run(context, "release")
    assert judged == []
    context.layout.report.unlink()
    stage.run(context, "release")
    assert judged == [1] and context.layout.report.exists()


def test_an_unserved_user_is_counted(context, spark):
    users = context.layout.clean_table("users")
    put_table(users.parent / "more", "users", [{"user_idx": 9, "user_id": "u9", "attributes": []}])
    (users.parent / "more" / "part-0.parquet").rename(users / "part-1.parquet")
    try:
        expected = release.ReleaseCounts(rows=8, users=5, unserved=1, last_rows=None)
        assert release.release_counts(spark, context.layout, None) == expected
    finally:
        (users / "part-1.parquet").unlink()


def test_lists_without_a_fused_list_are_an_error():
    shown = {"als": np.array([1, 0]), "fused": np.array([0, 0])}
    with pytest.raises(ContractViolation, match="has no fused list. Run jobs/score.py again with --force"):
        backtest._check(shown, users=3)


def test_a_missing_stage_is_named(tmp_path):
    with pytest.raises(StageMissing, match="has no finished clean stage"):
        stage.run(make_context(tmp_path, **SECTIONS), "backtest")


def test_last_rows_are_those_of_the_newest_other_run_date(tmp_path):
    layout = Layout(tmp_path, RUN_DATE.isoformat())
    layout.run.mkdir(parents=True)
    assert release.last_rows(layout, RUN_DATE.isoformat()) is None
    for day, rows in ((27, 100), (28, 200)):
        other = make_context(tmp_path, run_date=RUN_DATE.replace(month=2, day=day))
        finish_stage(other, "publish", "release", {}, rows=rows)
    finish_stage(make_context(tmp_path), "publish", "release", {}, rows=300)
    assert release.last_rows(layout, RUN_DATE.isoformat()) == 200
