"""A world with two kinds of people and of items: what newcomers are served when nothing but a segment or a category is known of them.

The left half likes the items of category c0, the right half those of c1; there are four of the left for one of the right, so what is popular with
everybody is c0. From the log to the lists by the stages themselves.
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


def kind(user):
    return int(user % 5 == 4)


def chosen(user):
    own = [item for item in range(1, ITEMS + 1) if category(item) == kind(user)]
    return [own[(7 * user + at) % len(own)] for at in range(EACH)]


def put_log(context):
    users = [{"user_idx": u, "user_id": f"u{u}", "segment": f"side={kind(u)}", "attributes": {}} for u in range(USERS)]
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
    finish_stage(context, "clean", BACKTEST, tables, n_users=USERS, n_items=ITEMS + 1)


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


def lists(context, name):
    """(user, model) -> items by rank."""
    found = {}
    for row in sorted(table(context, "score", name, "candidates"), key=lambda row: row["rank"]):
        found.setdefault((row["user_idx"], row["model"]), []).append(row["item_idx"])
    return found


@pytest.fixture(scope="module")
def whole(night):
    """Users and items that are held out whole."""
    rows = table(night, "split", "folds", "folds")
    users = {row["user_idx"] for row in rows if row["fold"] == "cold_user"}
    items = {row["item_idx"] for row in rows if row["fold"] == "cold_item"}
    # the world is worth asking: both kinds are there, and a list cannot hold all the items
    assert {kind(u) for u in users} == {category(i) for i in items} == {0, 1}
    assert len(items) > K
    return users, items


def test_new_users_get_what_their_segment_likes_and_beside_it_what_everybody_does(night, whole):
    users, items = whole
    found = lists(night, "cold_user")
    assert set(found) == {(user, name) for user in users for name in ("fused", "popularity")}
    assert all(len(own) == K for own in found.values())
    for (user, name), own in found.items():
        assert {category(item) for item in own} == {kind(user) if name == "fused" else 0}
        assert not set(own) & {*items, WITHDRAWN}


def test_content_finds_the_users_of_new_items(night, whole):
    """Its list begins with all new items of the user's category; equal ones by item."""
    users, items = whole
    found = lists(night, "cold_item")
    asked = {u for u in range(USERS) if set(chosen(u)) & items and u not in users}
    assert set(found) == {(user, name) for user in asked for name in ("content", "fused")}
    for user in asked:
        mine = sorted(item for item in items if category(item) == kind(user))
        others = sorted(item for item in items if category(item) != kind(user))
        assert found[user, "content"] == [*mine, *others][:K]
        assert set(found[user, "fused"]) <= items and len(found[user, "fused"]) == K


def test_the_ordinary_lists_are_of_test_users_only(night, whole):
    users, _ = whole
    assert not users & {row["user_idx"] for row in table(night, "score", "lists", "candidates")}


def test_lists_are_made_of_what_was_held_out_and_of_models_that_can(spark, tmp_path):
    """Without content nobody can tell new items apart, and nobody was held out to be served."""
    context = backtest(tmp_path, spark, models=("popularity", "item_knn"), cold_item_share=0.3)
    written = {path.name for path in context.layout.stage("score", BACKTEST).iterdir() if path.is_dir()}
    assert written == {"lists"}
