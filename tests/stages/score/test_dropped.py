"""A release after a backtest that drops a model and selects a ranker. The selection itself is planted here."""

import json
import shutil

import numpy as np
import pytest

from fusion.synthetic_sample import make_sample, noise
from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.errors import StageMissing
from recsys_spark.fusion.blend import Blend
from recsys_spark.fusion.model_selection import CrossValidator, Elimination, SelectedFusion, fit_ranker
from recsys_spark.metrics.bootstrap import Estimate
from recsys_spark.stages.score import stage
from recsys_spark.stages.score.score_context import ScoreContext
from recsys_spark.storage import manifest, tables
from stages.score.synthetic_models import N_USERS, finish_features

KEPT = ("popularity", "item_knn")
BLEND = Blend("zscore", (0.25, 0.75))


def planted(sample, **_):
    scores, held_out = noise(300, n_models=2)
    other = make_sample(scores, held_out, KEPT)
    text = fit_ranker(other, BLEND, length=5, k=5)
    dropped = {"als": Estimate(0.0, 0.0, 0.0)}
    elimination = Elimination(CrossValidator("zscore", 5, 5).blend(other), dropped, dropped)
    return SelectedFusion(KEPT, BLEND, text, {"fused": 0.1}, 0.1, elimination)


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    """The files of als are removed before the release."""
    score = {"top_n": 5, "candidates": 12, "partitions": 2}
    baselines = {"models": ["popularity", "als", "item_knn"]}
    context = finish_features(tmp_path_factory.mktemp("dropped"), spark, score=score, baselines=baselines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "select_fusion", planted)
        stage.run(context, BACKTEST)
    shutil.rmtree(context.layout.table("baselines", RELEASE, "als"))
    stage.run(context, RELEASE)
    return context


def rows(night, pass_name, name, contract):
    return tables.read_arrow(night.layout.table("score", pass_name, name), contract).to_pandas()


def counts(night, pass_name):
    return manifest.require(night.layout, "score", pass_name).counts


def test_the_backtest_has_the_list_of_every_model_and_fused_lists_without_the_dropped_one(night):
    lists = rows(night, BACKTEST, "lists", "candidates")
    assert set(lists["model"]) == {"popularity", "als", "item_knn", "fused"}
    assert set(lists.loc[lists["model"] == "als", "source"]) == {"als", "popularity"}
    assert set(lists.loc[lists["model"] == "fused", "source"]) <= set(KEPT)
    assert counts(night, BACKTEST)["dropped"] == ["als"]
    assert set(counts(night, BACKTEST)["seconds"]) == {"popularity", "als", "item_knn", "fused"}


def test_the_release_does_not_read_the_dropped_model(night):
    release = counts(night, RELEASE)
    assert release["models"] == list(KEPT) and set(release["seconds"]) == {*KEPT, "fused"}
    lists = rows(night, RELEASE, "top_n", "top_n").sort_values(["user_id", "rank"])
    assert lists["user_id"].nunique() == N_USERS and set(lists["source"]) == set(KEPT)
    assert (np.diff(lists["score"].to_numpy().reshape(N_USERS, 5), axis=1) <= 0).all()


def test_the_ranker_is_part_of_the_version(night):
    fusion = json.loads(night.layout.table("score", BACKTEST, "fusion.json").read_text())
    assert fusion["selected"] == "ranker" and [entry["model"] for entry in fusion["dropped"]] == ["als"]
    score = ScoreContext.of(night, RELEASE, list(KEPT), [], night.layout.run)
    version = score.version(score.request(fusion).fusion)
    assert version == counts(night, RELEASE)["model_version"]
    assert version != score.version(score.request({**fusion, "selected": "blend"}).fusion)


def test_models_stay_dropped_until_an_input_of_the_backtest_changes(night):
    assert night.models(BACKTEST) == ["popularity", "als", "item_knn"]
    assert night.models(RELEASE) == list(KEPT)
    manifest.run_stage(night.layout, "baselines", BACKTEST, inputs={}, settings={}, work=lambda _: {}, force=True)
    assert night.models(RELEASE) == ["popularity", "als", "item_knn"]
    with pytest.raises(StageMissing, match="baselines has run again since score read it"):
        stage.run(night, RELEASE)
