"""The lists of cold-start users and items, when only a segment or a category is known.

Users of side 0 like items of category c0, users of side 1 items of c1. There are four of side 0 for each of side 1, so
items of c0 are the popular ones. The stages run from the interactions to the lists.
"""

import pytest

from factories import finish_stage, make_context, moment
from recsys_spark.columns import BACKTEST
from recsys_spark.stages.baselines import stage as baselines
from recsys_spark.stages.features import stage as features
from recsys_spark.stages.score import stage as score
from recsys_spark.stages.split import stage as split
from recsys_spark.storage import tables as store

USERS, ITEMS, EACH, K = 90, 60, 9, 8
WITHDRAWN = 2
SHARES = {"cold_user_share": 0.2, "cold_item_share": 0.25, "seed": 5}


def category(item):
    return item % 2


def side(user):
    return int(user % 5 == 4)


def chosen(user):
    liked = [item for item in range(1, ITEMS + 1) if category(item) == side(user)]
    return [liked[(7 * user + at) % len(liked)] for at in range(EACH)]


def put_log(context):
    users = [{"user_idx": u, "user_id": f"u{u}", "segment": f"side={side(u)}", "attributes": {}} for u in range(USERS)]
    items = [
        {"item_idx": i, "item_id": f"i{i}", "categories": [f"c{category(i)}"], "withdrawn": i == WITHDRAWN}
        for i in range(1, ITEMS + 1)
    ]
    events = [
        {"user_idx": u, "item_idx": i, "event_ts": moment(day), "event_type": "view", "weight": 1.0}
        for u in range(USERS) for day, i in enumerate(chosen(u))
    ]  # fmt: skip
    tables = {
        "users": ("users", users),
        "items": ("items", items),
        "interactions": ("interactions", events),
    }
    finish_stage(context, "clean", None, tables, n_users=USERS, n_items=ITEMS + 1)


def backtest(root, spark, models=("popularity", "item_knn", "content"), **shares):
    context = make_context(
        root,
        spark,
        paths={"items": "items.csv", "users": "users.csv"},
        clean={"user_columns": {"attributes": ["side"]}, "segment_by": ["side"]},
        split={"min_train": 2, **shares},
        baselines={"models": list(models), "content": {"max_term_share": 0.9}},
        train={"enabled": False},
        score={"top_n": K, "candidates": 20, "partitions": 2},
        evaluate={"cutoffs": [K], "gate_k": K},
    )
    put_log(context)
    for stage in (split, baselines, features, score):
        stage.run(context, BACKTEST)
    return context


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    return backtest(tmp_path_factory.mktemp("cold"), spark, **SHARES)


def table(context, stage, name, contract):
    return store.read_arrow(context.layout.table(stage, BACKTEST, name), contract).to_pylist()


def lists_by_user(context, name):
    """{(user, model): items by rank}."""
    result = {}
    for row in sorted(table(context, "score", name, "candidates"), key=lambda row: row["rank"]):
        result.setdefault((row["user_idx"], row["model"]), []).append(row["item_idx"])
    return result


@pytest.fixture(scope="module")
def cold(night):
    """The cold users and items."""
    rows = table(night, "split", "folds", "folds")
    users = {row["user_idx"] for row in rows if row["fold"] == "cold_user"}
    items = {row["item_idx"] for row in rows if row["fold"] == "cold_item"}
    # both sides have cold users and items, and a list cannot hold all cold items
    assert {side(u) for u in users} == {category(i) for i in items} == {0, 1}
    assert len(items) > K
    return users, items


def test_cold_users_get_popular_items_of_their_segment_and_for_comparison_of_all(night, cold):
    users, items = cold
    lists = lists_by_user(night, "cold_user")
    assert set(lists) == {(user, name) for user in users for name in ("fused", "popularity")}
    for (user, name), listed in lists.items():
        assert len(listed) == K
        assert {category(item) for item in listed} == {side(user) if name == "fused" else 0}
        assert not set(listed) & {*items, WITHDRAWN}


def test_content_ranks_cold_items_of_the_user_s_category_first(night, cold):
    """Cold items of one category have equal scores, so the lower item comes first."""
    users, items = cold
    lists = lists_by_user(night, "cold_item")
    expected_users = {u for u in range(USERS) if set(chosen(u)) & items and u not in users}
    assert set(lists) == {(user, name) for user in expected_users for name in ("content", "fused")}
    for user in expected_users:
        liked = sorted(item for item in items if category(item) == side(user))
        others = sorted(item for item in items if category(item) != side(user))
        assert lists[user, "content"] == [*liked, *others][:K]
        assert set(lists[user, "fused"]) <= items and len(lists[user, "fused"]) == K


def test_the_ordinary_lists_are_of_test_users_only(night, cold):
    users, _ = cold
    assert not users & {row["user_idx"] for row in table(night, "score", "lists", "candidates")}


def test_no_cold_lists_without_cold_users_or_models_for_cold_items(spark, tmp_path):
    context = backtest(tmp_path, spark, models=("popularity", "item_knn"), cold_item_share=0.3)
    written = {path.name for path in context.layout.stage("score", BACKTEST).iterdir() if path.is_dir()}
    assert written == {"lists"}
