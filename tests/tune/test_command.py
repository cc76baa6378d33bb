"""`recsys tune` with an evaluator whose optimum is known: its files, interruption, continuation and errors."""

import logging
import time
from types import SimpleNamespace

import pytest

from recsys_spark.cli import INTERRUPTED, main
from recsys_spark.config.load import load
from recsys_spark.tune import command
from recsys_spark.tune.search import Search

SPACES = {
    "item_knn": "item_knn: {baselines.item_knn.user_power: {low: 0.1, high: 1.2}}",
    "fused": "fused: {baselines.item_knn.user_power: {low: 0.1, high: 1.2}}",
    "als": "als: {baselines.als.factors: [8, 64, 128], baselines.als.regularization: {low: 0.1, high: 10, log: true}}",
}


@pytest.fixture(autouse=True)
def reset_log_levels():
    yield
    for name in ("recsys_spark", "recsys_spark.tune", "recsys_spark.stages.train"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A config, search spaces, and a fake evaluator.

    The evaluator prefers a user_power of 0.9 and many factors. It is interrupted after `patience` trials.
    """
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    overlay = tmp_path / "conf.yaml"
    overlay.write_text(
        f"paths: {{root: {tmp_path / 'root'}, events: {tmp_path / 'log.csv'}}}\n"
        "baselines: {tasks: 3, item_knn: {user_power: 0.3}}\n"
    )
    for name, text in SPACES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    search = SimpleNamespace(folder=tmp_path, overlay=overlay, patience=5, evaluated=0)

    class FakeEvaluator:
        n_users = 6_040

        def __init__(self, context, layout, settings):
            pass

        def close(self):
            search.closed = True

        def objective(self, model):
            return self.evaluate

        def evaluate(self, values, report):
            if search.evaluated == search.patience:
                raise KeyboardInterrupt
            search.evaluated += 1
            ndcg = {"user_power": lambda x: 0.5 - abs(x - 0.9), "factors": lambda n: n / 1000}
            return sum(ndcg.get(key.split(".")[-1], lambda _: 0.0)(v) for key, v in values.items())

    monkeypatch.setattr(command, "TrialEvaluator", FakeEvaluator)
    return search


def run(search, *arguments, spaces=("item_knn",), minutes="5"):
    files = [str(search.folder / f"{name}.yaml") for name in spaces]
    return main(["tune", "--config", str(search.overlay), "--space", *files, "--minutes", minutes, *arguments])


def study(search, name="item_knn"):
    return search.folder / "root" / "tune" / name


def test_an_interrupted_search_leaves_its_best_settings_as_an_overlay(search):
    assert run(search, "--set", "score.top_n=30") == INTERRUPTED
    best = load(study(search) / "best.yaml")
    start = load(search.overlay, ["score.top_n=30"])
    power = best.baselines.item_knn.user_power
    assert abs(power - 0.9) < abs(0.3 - 0.9)
    item_knn = start.baselines.item_knn.model_copy(update={"user_power": power})
    baselines = start.baselines.model_copy(update={"item_knn": item_knn})
    assert best == start.model_copy(update={"baselines": baselines})
    assert (study(search) / "importance.png").read_bytes().startswith(b"\x89PNG")
    assert search.closed


def test_the_overlay_says_how_it_was_found(search):
    search.patience = 1
    run(search)
    head = [line for line in (study(search) / "best.yaml").read_text().splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# {search.overlay} with the best settings of a search (recsys tune), ")
    assert head[1].startswith("# NDCG@10 of each model alone on the validation items of 6,040 users")
    assert head[2].startswith("# item_knn: NDCG -0.1000 -> -0.1000, 1 trial in 0.0 minutes")


def test_the_same_command_continues_the_search(search, caplog):
    run(search)
    search.patience = 8
    caplog.clear()
    with caplog.at_level(logging.INFO, "recsys_spark.tune"):
        assert run(search) == INTERRUPTED
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("item_knn ")]
    # trial 5, the sixth, was running at the interruption
    assert [line.split(":")[0] for line in lines] == ["item_knn 5", "item_knn 6", "item_knn 7"]
    assert all("best 0." in line and "min left" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--set", "baselines.item_knn.user_power=0.4"], "baselines.item_knn.user_power: was 0.3, is 0.4"),
        (["--set", "split.valid_n=2"], "split.valid_n: was 1, is 2"),
        (["--run-date", "2020-02-02"], "run date: was "),
    ],
)  # fmt: skip
def test_other_settings_need_another_study(search, capsys, change, text):
    run(search)
    capsys.readouterr()
    assert run(search, *change) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        f"error: study {study(search)} was started with other settings. Give another --study or restore them"
    )
    assert len(lines) == 2 and lines[1].startswith(f"error: {text}")
    assert search.evaluated == 5
    assert run(search, *change, "--study", str(search.folder / "other")) == INTERRUPTED


def test_a_changed_space_or_log_is_refused(search, capsys):
    run(search)
    before = (study(search) / "best.yaml").read_text()
    (search.folder / "item_knn.yaml").write_text(SPACES["item_knn"].replace("1.2", "1.5"))
    (search.folder / "log.csv").write_text("user_id,item_id,timestamp\nu,i,2026-01-01\n")
    capsys.readouterr()
    assert run(search) == 2
    errors = capsys.readouterr().err
    assert "item_knn space, baselines.item_knn.user_power: was {'high': 1.2" in errors
    assert "paths.events: the files have changed" in errors
    assert (study(search) / "best.yaml").read_text() == before


def test_settings_that_no_ndcg_depends_on_may_change(search):
    run(search)
    search.patience = 6
    assert run(search, "--set", "publish.files=9") == INTERRUPTED
    assert search.evaluated == 6 and load(study(search) / "best.yaml").publish.files == 9


def test_settings_that_the_fusion_depends_on_may_not_change_in_a_search_of_the_fused_list(search, capsys):
    changes = [["--set", "evaluate.confidence=0.5"], ["--set", "score.fusion_users=9"]]
    run(search, spaces=["fused"])
    head = (study(search, "fused") / "best.yaml").read_text().splitlines()[1]
    assert head.startswith("# NDCG@10 of the fused list, cross-validated over the users of score.fusion_users")
    for change in changes:
        capsys.readouterr()
        assert run(search, *change, spaces=["fused"]) == 2
        assert f"{change[1].split('=')[0]}: was " in capsys.readouterr().err
    run(search)
    assert all(run(search, *change) == INTERRUPTED for change in changes)


def test_models_share_the_minutes_and_the_overlay(search, monkeypatch):
    shares = []

    def one_trial(self, start, objective, deadline, after):
        shares.append((self.space.model, deadline - time.monotonic(), start))
        self._run_start(start, objective)
        after(self)

    monkeypatch.setattr(Search, "run", one_trial)
    assert run(search, spaces=("item_knn", "als"), minutes="2") == 0
    (first, half, _), (second, rest, start) = shares
    assert (first, second) == ("item_knn", "als")
    assert half == pytest.approx(60, abs=10) and rest == pytest.approx(120, abs=20)
    assert start == {"baselines.als.factors": 64, "baselines.als.regularization": 5.0}
    best = load(study(search, "item_knn+als") / "best.yaml")
    assert (best.baselines.item_knn.user_power, best.baselines.als.factors) == (0.3, 64)


def test_faults_of_config_and_spaces_are_reported_before_anything_runs(search, capsys):
    assert run(search, "--set", "score.topn=3") == 2
    (search.folder / "als.yaml").write_text("als: {baselines.als.factor: [1, 2]}")
    assert run(search, spaces=("als",)) == 2
    assert "Did you mean factors?" in capsys.readouterr().err
    assert not (search.folder / "root").exists() and search.evaluated == 0
