"""A night whose backtest drops a model and ships a ranker: what the release then does. What is decided is planted; test_selection.py has the deciding."""

import json
import shutil

import numpy as np
import pytest

from fusion.synthetic_sample import make_sample, noise
from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.errors import StageMissing
from recsys_spark.fusion.blend import Blend
from recsys_spark.fusion.decision import Decision
from recsys_spark.fusion.model_selection import Selection, crossed, fit_ranker
from recsys_spark.metrics.bootstrap import Estimate
from recsys_spark.stages.score import stage
from recsys_spark.storage import manifest, tables
from stages.score.synthetic_models import N_USERS, finish_features

KEPT = ("popularity", "item_knn")
BLEND = Blend("zscore", (0.25, 0.75))


def decided(sample, **_):
    scores, held_out = noise(300, n_models=2)
    other = make_sample(scores, held_out, KEPT)
    text = fit_ranker(other, BLEND, length=5, k=5)
    gone = {"als": Estimate(0.0, 0.0, 0.0)}
    return Decision(KEPT, BLEND, text, {"fused": 0.1}, Selection(crossed(other, "zscore", 5), gone, gone))


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    """als is not even there when it comes to the release."""
    score = {"top_n": 5, "candidates": 12, "partitions": 2}
    baselines = {"models": ["popularity", "als", "item_knn"]}
    context = finish_features(tmp_path_factory.mktemp("dropped"), spark, score=score, baselines=baselines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "decide", decided)
        stage.run(context, BACKTEST)
    shutil.rmtree(context.layout.table("baselines", RELEASE, "als"))
    stage.run(context, RELEASE)
    return context


def rows(night, pass_name, name, contract):
    return tables.read_arrow(night.layout.table("score", pass_name, name), contract).to_pandas()


def counts(night, pass_name):
    return manifest.require(night.layout, "score", pass_name).counts


def test_the_backtest_still_has_every_model_s_list_and_none_of_the_dropped_one_in_the_fused(night):
    found = rows(night, BACKTEST, "lists", "candidates")
    assert set(found["model"]) == {"popularity", "als", "item_knn", "fused"}
    assert set(found.loc[found["model"] == "als", "source"]) == {"als", "popularity"}
    assert set(found.loc[found["model"] == "fused", "source"]) <= set(KEPT)
    assert counts(night, BACKTEST)["dropped"] == ["als"]
    assert set(counts(night, BACKTEST)["seconds"]) == {"popularity", "als", "item_knn", "fused"}


def test_the_release_does_without_it(night):
    told = counts(night, RELEASE)
    assert told["models"] == list(KEPT) and set(told["seconds"]) == {*KEPT, "fused"}
    found = rows(night, RELEASE, "top_n", "top_n").sort_values(["user_id", "rank"])
    assert found["user_id"].nunique() == N_USERS and set(found["source"]) == set(KEPT)
    assert (np.diff(found["score"].to_numpy().reshape(N_USERS, 5), axis=1) <= 0).all()


def test_the_ranker_is_part_of_the_version(night):
    told = json.loads(night.layout.table("score", BACKTEST, "fusion.json").read_text())
    assert told["ships"] == "ranker" and [gone["model"] for gone in told["dropped"]] == ["als"]
    desk = stage._Desk.make(night, RELEASE, list(KEPT), [], night.layout.run)
    wanted = desk.wanted(told)
    blend_only = desk.wanted({**told, "ships": "blend"})
    assert desk.version(wanted.fusion) == counts(night, RELEASE)["model_version"]
    assert desk.version(blend_only.fusion) != desk.version(wanted.fusion)


def test_the_release_knows_what_was_dropped_until_the_backtest_is_outdated(night):
    assert night.models(BACKTEST) == ["popularity", "als", "item_knn"]
    assert night.models(RELEASE) == list(KEPT)
    manifest.run_stage(night.layout, "baselines", BACKTEST, inputs={}, settings={}, work=lambda _: {}, force=True)
    assert night.models(RELEASE) == ["popularity", "als", "item_knn"]
    with pytest.raises(StageMissing, match="baselines has run again since score read it"):
        stage.run(night, RELEASE)
