"""The stage over Spark: its models and counts equal those of fits without Spark."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from factories import checkerboard, finish_stage, make_context, missing_item, moment
from recsys_spark.errors import StageMissing
from recsys_spark.models import base
from recsys_spark.models.als import AlsModel, Objective
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ContentModel, ItemKnnModel, ItemRidgeModel
from recsys_spark.models.popularity import PopularityModel
from recsys_spark.models.svd import SvdModel
from recsys_spark.models.user_knn import UserKnnModel
from recsys_spark.stages.baselines import als, item_knn, stage
from recsys_spark.storage import manifest
from stages.baselines.local import Tasks, checkerboard_matrix, histories_of, put_pairs

CLASSES = (
    PopularityModel,
    AlsModel,
    ItemKnnModel,
    ItemRidgeModel,
    UserKnnModel,
    SvdModel,
    ContentModel,
)
KINDS = {model.kind: model for model in CLASSES}
OF_PAIRS = ("als", "item_knn", "item_ridge", "user_knn", "svd")
USERS, ITEMS = 20, 12
TRAIN = checkerboard(USERS, ITEMS)
OBJECTIVE = {
    "confidence": 1.0,
    "unobserved_weight": 0.1,
    "regularization": 0.01,
    "regularization_exponent": 1.0,
}
SECTIONS = {
    "baselines": {
        "tasks": 2,
        "models": ["popularity", *OF_PAIRS, "content"],
        "als": {"factors": 4, "iterations": 5, "seed": 7, **OBJECTIVE},
        "user_knn": {"neighbours": 6, "max_users": USERS - 1},
        "svd": {"factors": 2},
        "content": {"max_term_share": 0.5},
    },
    "clean": {"segment_by": ["side"], "user_columns": {"attributes": ["side"]}},
    "paths": {"users": "users.csv", "items": "items.csv"},
}


def fold_rows() -> list[dict]:
    rows = [{"user_idx": u, "item_idx": i, "event_ts": moment(i), "weight": 1.0, "fold": "train"} for u, i in TRAIN]
    # the held-out pairs are the missing items: a fit that read them would exclude them as seen
    held = [{"user_idx": u, "item_idx": missing_item(u, ITEMS), "fold": "test"} for u in range(USERS)]
    return rows + [{**row, "event_ts": moment(99), "weight": 1.0} for row in held]


def put_inputs(context) -> None:
    segments = [{"user_idx": u, "user_id": f"u{u}", "segment": f"side {u % 2}", "attributes": []} for u in range(USERS)]
    # the last item has no users, and an even title
    items = [
        {"item_idx": i, "item_id": f"i{i}", "title": ("Odd", "Even")[i % 2 == 0], "categories": [f"only {i}"]}
        | {"withdrawn": False}
        for i in range(1, ITEMS + 2)
    ]
    items[-1]["title"] = "even"
    tables = {"users": ("users", segments), "items": ("items", items)}
    finish_stage(context, "clean", None, tables, n_users=USERS + 3, n_items=ITEMS + 2)
    finish_stage(context, "split", "backtest", {"folds": ("folds", fold_rows())}, train=len(fold_rows()))


@pytest.fixture(scope="module")
def done(spark, tmp_path_factory):
    context = make_context(tmp_path_factory.mktemp("root"), spark, **SECTIONS)
    put_inputs(context)
    stage.run(context, "backtest")
    folder = context.layout.stage("baselines", "backtest")
    models = {name: base.load(folder / name, KINDS) for name in ("popularity", *OF_PAIRS, "content")}
    return SimpleNamespace(context=context, folder=folder, models=models, counts=manifest.read(folder).counts)


def test_only_models_and_the_manifest_are_left(done):
    names = ["als", "content", "item_knn", "item_ridge", "manifest.json", "popularity", "svd", "user_knn"]
    assert sorted(p.name for p in done.folder.iterdir()) == names


def test_counts(done):
    sizes = (done.counts["pairs"], done.counts["users"], done.counts["items"])
    assert sizes == (USERS * (ITEMS // 2 - 1), USERS, ITEMS)
    assert done.counts["segments"] == 2
    assert done.counts["neighbours"] == ITEMS * (ITEMS // 2 - 1)  # the other items of its side
    assert done.counts["ridge_weights"] == done.counts["neighbours"]
    assert (done.counts["reference_users"], done.counts["svd_factors"]) == (USERS - 1, 2)
    # "even" is in more than half of the items, "odd" is kept, and each category has one item
    assert {name: n for name, n in done.counts.items() if name.startswith("content")} == {
        "content_items": ITEMS + 1,
        "content_terms": 1,
        "content_terms_rare": ITEMS + 1,
        "content_terms_common": 1,
        "content_neighbours": 6 * 5,
    }
    assert sorted(done.counts["seconds"]) == sorted(["pairs", "popularity", "content", *OF_PAIRS])
    objectives = done.counts["als_objective"]
    assert len(objectives) == 5
    assert objectives == sorted(objectives, reverse=True)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_the_missing_item_comes_first(done, name):
    model, seen = done.models[name], checkerboard_matrix(TRAIN, ITEMS)
    scores = np.array(model.score_tile(model.encode(Histories.of([r.indices.tolist() for r in seen])), 0, ITEMS + 1))
    scores[:, 0] = -np.inf
    scores[seen.nonzero()] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, ITEMS) for user in range(USERS)]


def test_content_reads_the_items_table(done):
    table = done.models["content"].arrays
    rows = [table["neighbours"][lo:hi].tolist() for lo, hi in zip(table["indptr"], table["indptr"][1:])]
    odd = set(range(1, ITEMS + 1, 2))
    assert [set(row) for row in rows[1:]] == [odd - {i} if i in odd else set() for i in range(1, ITEMS + 2)]


def test_popularity_is_fitted_by_segment(done):
    model = done.models["popularity"]
    assert model.parameters["segments"] == ["side 0", "side 1"]
    odd = model.arrays["scores"][2]
    assert odd[1:13:2].min() > odd[2:13:2].max()
    np.testing.assert_allclose(model.arrays["scores"].sum(axis=1), 1, rtol=1e-6)


def test_fits_without_spark_give_the_same_models(done, tmp_path):
    matrix = checkerboard_matrix(TRAIN, ITEMS)
    matrix.resize(USERS + 3, ITEMS + 2)
    pairs = put_pairs(tmp_path / "pairs", matrix, 5)
    sizes = {"factors": 4, "iterations": 5, "seed": 7}
    model, _ = als.fit_pairs(Tasks(), pairs, tmp_path / "als", objective=Objective(**OBJECTIVE), **sizes)
    seen = histories_of(matrix)
    scores = [m.score_tile(m.encode(seen), 0, ITEMS + 2) for m in (done.models["als"], model)]
    np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-4)
    options = done.context.config.baselines.item_knn.model_dump(exclude={"neighbours"})
    similarity = item_knn.ItemSimilarity(**options)
    table = item_knn.fit_pairs(Tasks(), pairs, tmp_path / "table", neighbours=1000, similarity=similarity)
    for name, array in table.arrays.items():
        np.testing.assert_allclose(done.models["item_knn"].arrays[name], array, rtol=1e-6)


def test_a_second_run_is_skipped_without_spark(done, caplog):
    context = make_context(done.context.layout.root, **SECTIONS)
    context.__dict__["spark"] = None
    with caplog.at_level(logging.INFO, "recsys_spark"):
        stage.run(context, "backtest")
    assert "backtest baselines: done before, skipped" in caplog.text


def test_missing_inputs_are_an_error(tmp_path):
    with pytest.raises(StageMissing, match="no finished clean stage"):
        stage.run(make_context(tmp_path), "backtest")


def test_pairs_are_not_written_if_no_model_reads_them(spark, tmp_path):
    paths = {"paths": {"items": "items.csv"}}
    context = make_context(tmp_path, spark, baselines={"models": ["popularity", "content"]}, **paths)
    put_inputs(context)
    stage.run(context, "backtest")
    seconds = manifest.read(context.layout.stage("baselines", "backtest")).counts["seconds"]
    assert sorted(seconds) == ["content", "popularity"]


def test_popularity_can_be_the_only_model(spark, tmp_path):
    context = make_context(tmp_path, spark, baselines={"models": ["popularity"]})
    put_inputs(context)
    stage.run(context, "backtest")
    folder = context.layout.stage("baselines", "backtest")
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "popularity"]
    model = base.load(folder / "popularity", KINDS)
    assert model.parameters["segments"] == []
    expected = np.bincount([i for _, i in TRAIN], minlength=ITEMS + 2) / len(TRAIN)
    np.testing.assert_allclose(model.arrays["scores"][0], expected, rtol=1e-6)


def test_a_model_that_the_backtest_dropped_is_not_fitted_in_the_release(spark, tmp_path, caplog):
    context = make_context(tmp_path, spark, baselines={"tasks": 2, "item_knn": {"neighbours": 5}})
    put_inputs(context)
    finish_stage(context, "split", "release", {"folds": ("folds", fold_rows())}, train=len(fold_rows()))
    finish_stage(context, "score", "backtest", {}, dropped=["als"])
    folder = context.layout.stage("baselines", "release")
    with caplog.at_level(logging.INFO, "recsys_spark"):
        stage.run(context, "release")
        assert sorted(p.name for p in folder.iterdir()) == ["item_knn", "manifest.json", "popularity"]
        assert "als" not in manifest.read(folder).counts["seconds"]
        finish_stage(context, "score", "backtest", {}, dropped=["als"])  # a second run with the same result
        stage.run(context, "release")
        assert "release baselines: done before, skipped" in caplog.text
    finish_stage(context, "score", "backtest", {}, dropped=["als", "item_knn"])
    stage.run(context, "release")
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "popularity"]
