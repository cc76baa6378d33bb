"""The judge over a finished night: its figures are those that the night's own blend was learned with, and nothing of the test is read."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from night import RUN_DATE
from recsys_spark.columns import BACKTEST, MODELS
from recsys_spark.errors import ContractViolation
from recsys_spark.fusion import decision
from recsys_spark.pipeline.job import Context
from recsys_spark.storage.layout import StudyLayout
from recsys_spark.tune.judge import Judge
from recsys_spark.tune.settings import Settings


@pytest.fixture(scope="module")
def judge(finished_night, spark, tmp_path_factory):
    """Over a copy of the night without its test fold."""
    night = finished_night.copy(tmp_path_factory.mktemp("judge"))
    layout = StudyLayout(night.root, RUN_DATE)
    folders = [
        layout.table("split", BACKTEST, "folds") / "fold=test",
        *(layout.table("features", BACKTEST, table) / "as_of=test" for table in ("histories", "positives")),
    ]
    for folder in folders:
        shutil.rmtree(folder)
    settings = Settings.read(night.overlay)
    context = Context(settings.config, layout, date.fromisoformat(RUN_DATE))
    context.__dict__["spark"] = spark
    return Judge(context, layout, settings)


def known(judge: Judge) -> dict[str, float]:
    """Valid NDCG of each model alone, as the score stage found it, and under fused of the blend where it was learned."""
    path: Path = judge.layout.table("score", BACKTEST, "fusion.json")
    return dict(json.loads(path.read_text())["valid_ndcg"])


@pytest.mark.parametrize("model", MODELS)
def test_the_settings_of_the_night_reach_what_they_reached_in_the_night(judge, model):
    reports = []
    ndcg = judge.objective(model)({}, lambda *told: reports.append(told))
    assert ndcg == pytest.approx(known(judge)[model], abs=1e-6)
    assert reports == []  # the network of the night is there, so nothing is trained


def test_all_models_together_are_judged_by_what_was_learned_on_others(judge, monkeypatch):
    objective = judge.objective("fused")
    with pytest.raises(ContractViolation, match="fewer than 200 users who have valid items"):
        objective({}, None)
    monkeypatch.setattr(decision, "FEWEST", 20)
    crossed = objective({"score.fusion": "blend", "score.drop": False}, None)
    told = known(judge)
    assert 0 < crossed < told["fused"]  # the blend of the night, where it was learned
    assert objective({"score.fusion": "blend", "score.drop": False, "score.candidates": 5}, None) != crossed


def test_other_settings_are_other_models(judge):
    start = judge.objective("item_knn")({}, None)
    other = judge.objective("item_knn")(
        {"baselines.item_knn.target_power": 3.0, "baselines.item_knn.neighbours": 5}, None
    )
    assert other != start
    assert judge.objective("item_knn")({}, None) == start


def test_fewer_users_when_the_config_says_so(judge):
    context = judge.context
    settings = Settings.read(judge.settings.overlay, ["train.valid_users=7"])
    few = Judge(Context(settings.config, judge.layout, context.run_date), judge.layout, settings)
    assert len(few.held.histories) == 7 < len(judge.held.histories) == 90


def test_a_network_with_neighbours_has_item_knn_fitted_and_no_other_baseline(judge):
    shutil.rmtree(judge.layout.stage("baselines", BACKTEST))  # a study has none
    values = {"train.neighbours": 3, "train.epochs": 1}
    reports = []
    assert judge.objective("network")(values, lambda *told: reports.append(told)) > 0
    assert [epoch for epoch, _ in reports] == [1]
    fitted = {path.name for path in judge.layout.stage("baselines", BACKTEST).iterdir() if path.is_dir()}
    assert fitted == {"popularity", "item_knn"}
