"""The score stage over a small night: its tables, manifests and errors."""

import json

import numpy as np
import pytest

from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.errors import ContractViolation, InputMissing, StageMissing
from recsys_spark.hashing import digest
from recsys_spark.metrics.categories import Categories
from recsys_spark.models import base
from recsys_spark.stages.score import stage
from recsys_spark.storage import manifest, tables
from stages.score.synthetic_models import (
    MODELS,
    N_ITEMS,
    N_USERS,
    UNLISTED,
    WITHDRAWN,
    category_of,
    finish_features,
    histories,
)

TOP_N, CANDIDATES = 5, 8
WITHOUT_HISTORY = N_USERS // 5
ON_TEST = N_USERS // 2


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    """Both passes, with i7 and an unknown item blocked."""
    root = tmp_path_factory.mktemp("score")
    (root / "blocked.txt").write_text("i7\nnever-heard-of\n")
    score = {
        "top_n": TOP_N,
        "candidates": CANDIDATES,
        "blocked_items": str(root / "blocked.txt"),
        "fusion_users": 12,
        "partitions": 2,
    }
    context = finish_features(root, spark, score=score)
    for pass_name in stage.PASSES:
        stage.run(context, pass_name)
    return context


def table(context, pass_name, name, contract):
    return tables.read_arrow(context.layout.table("score", pass_name, name), contract).to_pandas()


def counts(context, pass_name):
    return manifest.require(context.layout, "score", pass_name).counts


def test_the_backtest_writes_the_fusion(night):
    fusion = json.loads(night.layout.table("score", BACKTEST, "fusion.json").read_text())
    assert fusion["method"] in ("zscore", "rrf")
    assert (fusion["k"], fusion["users"]) == (5, 12)  # of the 16 with a history and a validation item
    assert set(fusion["weights"]) == set(MODELS)
    assert sum(fusion["weights"].values()) == pytest.approx(1)
    assert set(fusion["valid_ndcg"]) == {*MODELS, "fused"}
    assert fusion["valid_ndcg"]["fused"] >= max(fusion["valid_ndcg"][name] for name in MODELS) >= 0


def test_the_backtest_has_lists_of_every_test_user_and_model(night):
    lists = table(night, BACKTEST, "lists", "candidates")
    assert len(lists) == ON_TEST * (len(MODELS) + 1) * TOP_N == counts(night, BACKTEST)["rows"]
    assert set(lists["user_idx"]) == set(range(0, N_USERS, 2))
    cold = {row["user_idx"] for row in histories(("test",)) if not row["item_idx"]}
    assert set(lists[lists["user_idx"].isin(cold)]["source"]) == {"popularity"}
    single = lists[~lists["user_idx"].isin(cold) & (lists["model"] != "fused")]
    assert (single["source"] == single["model"]).all()


def test_the_release_has_a_valid_list_for_every_user(night):
    top = table(night, RELEASE, "top_n", "top_n").sort_values(["user_id", "rank"])
    assert set(top["user_id"]) == {f"u{u}" for u in range(N_USERS)}
    assert not night.layout.table("score", BACKTEST, "diversity_tradeoff").exists()
    assert (top["rank"].to_numpy().reshape(N_USERS, TOP_N) == np.arange(1, TOP_N + 1)).all()
    assert (np.diff(top["score"].to_numpy().reshape(N_USERS, TOP_N), axis=1) <= 0).all()
    assert not set(top["item_id"]) & {"i0", "i7", f"i{WITHDRAWN}", f"i{UNLISTED}"}
    seen = {f"u{row['user_idx']}": {f"i{i}" for i in row["item_idx"]} for row in histories(("release",))}
    assert not any(item in seen[user] for user, item in zip(top["user_id"], top["item_id"]))
    reasons = list(zip(top["user_id"], top["source"], top["because"]))
    assert all(
        because in seen[user] if source != "popularity" else because is None for user, source, because in reasons
    )
    assert len({because for _, _, because in reasons}) > 10
    assert set(top["run_date"]) == {night.run_date} and set(top["run_id"]) == {night.layout.run_id}
    assert set(top["model_version"]) == {counts(night, RELEASE)["model_version"]}


def test_the_manifest_counts_users_and_banned_items(night):
    release = counts(night, RELEASE)
    names = ("users", "users_total", "users_without_history", "rows")
    assert [release[name] for name in names] == [N_USERS, N_USERS, WITHOUT_HISTORY, N_USERS * TOP_N]
    assert {k: release[k] for k in ("withdrawn", "blocked", "blocked_unknown", "unlisted")} == {
        "withdrawn": 1, "blocked": 1, "blocked_unknown": 1, "unlisted": 1,
    }  # fmt: skip
    assert release["models"] == list(MODELS)
    assert json.loads(night.layout.table("score", RELEASE, "blocked.json").read_text()) == [
        "i7",
        "never-heard-of",
    ]
    assert counts(night, BACKTEST)["users"] == ON_TEST


def test_the_model_version_is_a_hash_of_the_models_and_the_blend(night):
    headers = {name: base.read_header(night.layout.table("baselines", RELEASE, name)) for name in MODELS}
    fusion = json.loads(night.layout.table("score", BACKTEST, "fusion.json").read_text())
    assert counts(night, RELEASE)["model_version"] == digest([headers, fusion["method"], fusion["weights"]])


def test_a_finished_pass_is_not_repeated_for_another_batch_size_or_number_of_tasks(night):
    for pass_name in stage.PASSES:
        before = manifest.require(night.layout, "score", pass_name)
        score = night.config.score.model_copy(update={"partitions": 7, "user_batch": 3, "item_tile": 9})
        night.config.__dict__["score"], kept = score, night.config.score
        stage.run(night, pass_name)
        night.config.__dict__["score"] = kept
        assert manifest.require(night.layout, "score", pass_name) == before


def test_a_changed_file_of_blocked_items_repeats_the_release(spark, night):
    """It changes the tables of `night`, so tests of those stand above."""
    path = night.config.score.blocked_items
    with open(path, "a") as file:
        file.write("i8\n")
    stage.run(night, RELEASE)
    assert "i8" not in set(table(night, RELEASE, "top_n", "top_n")["item_id"])
    assert counts(night, RELEASE)["blocked"] == 2
    seen = {row["user_idx"]: row["item_idx"] for row in histories(("release",))}
    showable = set(seen[1]) - {WITHDRAWN, UNLISTED, 7}
    with open(path, "a") as file:
        file.writelines(f"i{i}\n" for i in range(1, N_ITEMS) if i not in showable)
    stage.run(night, RELEASE)
    exhausted = {f"u{user}" for user, items in seen.items() if showable <= set(items)}
    assert "u1" in exhausted
    assert {f"u{u}" for u in range(N_USERS)} - set(table(night, RELEASE, "top_n", "top_n")["user_id"]) == exhausted
    assert counts(night, RELEASE)["users_exhausted"] == len(exhausted)


def test_errors_come_before_any_work(tmp_path):
    context = finish_features(tmp_path, score={"top_n": 5, "candidates": 8, "blocked_items": str(tmp_path / "gone")})
    with pytest.raises(InputMissing, match="score.blocked_items"):
        stage.run(context, BACKTEST)
    context = finish_features(tmp_path, score={"top_n": 5, "candidates": 8})
    with pytest.raises(StageMissing, match="no finished score stage"):
        stage.run(context, RELEASE)


def test_models_of_different_sizes_are_refused(tmp_path):
    from stages.score.fake_models import FakeModel

    context = finish_features(tmp_path, score={"top_n": 5, "candidates": 8})
    base.save(context.layout.table("baselines", BACKTEST, "als"), FakeModel(7, kind="als"))
    with pytest.raises(ContractViolation, match="popularity 31, als 7, item_knn 31"):
        stage.run(context, BACKTEST)


def test_a_maximum_per_category_alone_has_a_tradeoff(spark, tmp_path):
    context = finish_features(tmp_path, spark, score={"top_n": TOP_N, "candidates": 20, "max_per_category": 1})
    stage.run(context, BACKTEST)
    lists = table(context, BACKTEST, "diversity_tradeoff", "candidates")
    assert set(lists["model"]) == {"fused"} and set(lists["diversity"]) == {0}
    assert set(lists["max_per_category"].fillna(0)) == {0, 1, 2, 3}
    most = lists.assign(category=lists["item_idx"].map(category_of), cap=lists["max_per_category"].fillna(0))
    most = most.groupby(["cap", "user_idx", "category"]).size().groupby("cap").max()
    assert most[1] == 1 and most[2] == 2 and most[0] > 2


def test_diversified_lists_keep_the_maximum_per_category_and_have_a_tradeoff(spark, tmp_path):
    score = {"top_n": TOP_N, "candidates": 20, "partitions": 2, "diversity": 0.25, "max_per_category": 2}
    context = finish_features(tmp_path, spark, score=score)
    for pass_name in stage.PASSES:
        stage.run(context, pass_name)
    category = {f"i{i}": category_of(i) for i in range(1, N_ITEMS)}
    top = table(context, RELEASE, "top_n", "top_n").sort_values(["user_id", "rank"])
    assert len(top) == N_USERS * TOP_N
    assert top.assign(category=top["item_id"].map(category)).groupby(["user_id", "category"]).size().max() == 2
    assert (np.diff(top["score"].to_numpy().reshape(N_USERS, TOP_N), axis=1) <= 0).all()
    tradeoff = table(context, BACKTEST, "diversity_tradeoff", "candidates")
    settings = set(zip(tradeoff["diversity"], tradeoff["max_per_category"].fillna(0)))
    assert settings == {(d, 2) for d in (0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5)} | {(0.25, cap) for cap in (0, 1, 2, 3)}
    assert set(tradeoff["user_idx"]) == set(range(0, N_USERS, 2))
    lists = table(context, BACKTEST, "lists", "candidates")
    names = ["user_idx", "rank", "item_idx", "score"]
    one, other = [
        frame[names].sort_values(names, ignore_index=True)
        for frame in (
            tradeoff[(tradeoff["diversity"] == 0.25) & (tradeoff["max_per_category"] == 2)],
            lists[lists["model"] == "fused"],
        )
    ]
    assert one.equals(other)
    fusion = json.loads(context.layout.table("score", BACKTEST, "fusion.json").read_text())
    items = tables.read_arrow(context.layout.clean_table("items"), "items")
    categories = Categories.of(items, N_ITEMS).version
    headers = {name: base.read_header(context.layout.table("baselines", RELEASE, name)) for name in MODELS}
    assert counts(context, RELEASE)["model_version"] == digest(
        [headers, fusion["method"], fusion["weights"], [0.25, 2], categories]
    )
