"""The evaluator over a finished night: it reaches the night's own validation NDCGs without reading the test fold."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from night import RUN_DATE
from recsys_spark import registry
from recsys_spark.columns import BACKTEST
from recsys_spark.errors import ContractViolation
from recsys_spark.fusion import model_selection
from recsys_spark.pipeline.context import Context
from recsys_spark.storage.layout import StudyLayout
from recsys_spark.tune.evaluation import TrialEvaluator
from recsys_spark.tune.settings import Settings


@pytest.fixture(scope="module")
def evaluator(finished_night, spark, tmp_path_factory):
    """An evaluator over a copy of the night without its test fold."""
    night = finished_night.copy(tmp_path_factory.mktemp("evaluator"))
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
    return TrialEvaluator(context, layout, settings)


def recorded(evaluator: TrialEvaluator) -> dict[str, float]:
    """The validation NDCG of each model alone and of the fused list, as the score stage recorded them."""
    path: Path = evaluator.layout.table("score", BACKTEST, "fusion.json")
    return dict(json.loads(path.read_text())["valid_ndcg"])


@pytest.mark.parametrize("model", registry.names())
def test_the_settings_of_the_night_reach_its_ndcg(evaluator, model):
    reports = []
    ndcg = evaluator.objective(model)({}, lambda *report: reports.append(report))
    assert ndcg == pytest.approx(recorded(evaluator)[model], abs=1e-6)
    assert reports == []  # the night has trained the network already


def test_the_fused_list_is_evaluated_by_cross_validation(evaluator, monkeypatch):
    objective = evaluator.objective("fused")
    with pytest.raises(ContractViolation, match="fewer than 200 users have validation items"):
        objective({}, None)
    monkeypatch.setattr(model_selection, "MIN_INFORMATIVE_USERS", 20)
    crossed = objective({"score.fusion": "blend", "score.drop": False}, None)
    # the night's blend was measured on the users it was learned from
    assert 0 < crossed < recorded(evaluator)["fused"]
    assert objective({"score.fusion": "blend", "score.drop": False, "score.candidates": 5}, None) != crossed


def test_other_settings_reach_another_ndcg(evaluator):
    start = evaluator.objective("item_knn")({}, None)
    other = evaluator.objective("item_knn")(
        {"baselines.item_knn.target_power": 3.0, "baselines.item_knn.neighbours": 5}, None
    )
    assert other != start
    assert evaluator.objective("item_knn")({}, None) == start


def test_valid_users_limits_the_validation_users(evaluator):
    context = evaluator.context
    settings = Settings.read(evaluator.settings.overlay, ["train.valid_users=7"])
    few = TrialEvaluator(Context(settings.config, evaluator.layout, context.run_date), evaluator.layout, settings)
    assert few.n_users == 7 < evaluator.n_users == 90


def test_a_network_with_neighbours_needs_item_knn_and_no_other_baseline(evaluator):
    shutil.rmtree(evaluator.layout.stage("baselines", BACKTEST))  # a study has none
    values = {"train.neighbours": 3, "train.epochs": 1}
    reports = []
    assert evaluator.objective("network")(values, lambda *report: reports.append(report)) > 0
    assert [epoch for epoch, _ in reports] == [1]
    fitted = {path.name for path in evaluator.layout.stage("baselines", BACKTEST).iterdir() if path.is_dir()}
    assert fitted == {"popularity", "item_knn"}
