"""The command, with a judge that knows the answer: its files, going on, refusals, and being stopped."""

import logging
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from night import REPO
from recsys_spark.config.load import load
from recsys_spark.tune import command
from recsys_spark.tune.search import Search

SPACES = {
    "item_knn": "item_knn: {baselines.item_knn.user_power: {low: 0.1, high: 1.2}}",
    "fused": "fused: {baselines.item_knn.user_power: {low: 0.1, high: 1.2}}",
    "als": "als: {baselines.als.factors: [8, 64, 128], baselines.als.regularization: {low: 0.1, high: 10, log: true}}",
}


@pytest.fixture(autouse=True)
def quiet():
    yield
    for name in ("recsys_spark", "recsys_spark.tune", "recsys_spark.stages.train"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A config, two spaces, and a judge who likes a user_power of 0.9 and many factors, and is interrupted after `patience` trials."""
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    overlay = tmp_path / "conf.yaml"
    overlay.write_text(
        f"paths: {{root: {tmp_path / 'root'}, events: {tmp_path / 'log.csv'}}}\n"
        "baselines: {tasks: 3, item_knn: {user_power: 0.3}}\n"
    )
    for name, text in SPACES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    world = SimpleNamespace(folder=tmp_path, overlay=overlay, patience=5, judged=0)

    class FakeJudge:
        def __init__(self, context, layout, settings):
            self.held = SimpleNamespace(histories=range(6_040))
            self.root = context.config.paths.root

        def close(self):
            world.closed = True

        def objective(self, model):
            return self.judge

        def judge(self, values, report):
            if world.judged == world.patience:
                raise KeyboardInterrupt
            world.judged += 1
            good = {"user_power": lambda x: 0.5 - abs(x - 0.9), "factors": lambda n: n / 1000}
            return sum(good.get(key.split(".")[-1], lambda _: 0.0)(v) for key, v in values.items())

    monkeypatch.setattr(command, "Judge", FakeJudge)
    return world


def run(world, *arguments, spaces=("item_knn",), minutes="5"):
    files = [str(world.folder / f"{name}.yaml") for name in spaces]
    return command.main(["--config", str(world.overlay), "--space", *files, "--minutes", minutes, *arguments])


def study(world, name="item_knn"):
    return world.folder / "root" / "tune" / name


def test_what_was_found_until_it_was_stopped_is_left_as_an_overlay(world):
    assert run(world, "--set", "score.top_n=30") == command.STOPPED
    best = load(study(world) / "best.yaml")
    start = load(world.overlay, ["score.top_n=30"])
    power = best.baselines.item_knn.user_power
    assert abs(power - 0.9) < abs(0.3 - 0.9)
    cosine = start.baselines.item_knn.model_copy(update={"user_power": power})
    baselines = start.baselines.model_copy(update={"item_knn": cosine})
    assert best == start.model_copy(update={"baselines": baselines})
    assert (study(world) / "importance.png").read_bytes().startswith(b"\x89PNG")
    assert world.closed


def test_the_overlay_says_where_it_comes_from(world):
    world.patience = 1
    run(world)
    head = [line for line in (study(world) / "best.yaml").read_text().splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# {world.overlay} with the settings that a search found")
    assert head[1].startswith("# NDCG@10 of 6,040 users' valid items")
    assert head[2].startswith("# item_knn: NDCG -0.1000 -> -0.1000, 1 trial in 0.0 minutes")


def test_started_again_it_goes_on(world, caplog):
    run(world)
    world.patience = 8
    caplog.clear()
    with caplog.at_level(logging.INFO, "recsys_spark.tune"):
        assert run(world) == command.STOPPED
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("item_knn ")]
    # the sixth, number 5, was under way when it was stopped
    assert [line.split(":")[0] for line in said] == ["item_knn 5", "item_knn 6", "item_knn 7"]
    assert all("best 0." in line and "min left" in line for line in said)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--set", "baselines.item_knn.user_power=0.4"], "baselines.item_knn.user_power: was 0.3, is 0.4"),
        (["--set", "split.valid_n=2"], "split.valid_n: was 1, is 2"),
        (["--run-date", "2020-02-02"], "run date: was "),
    ],
)  # fmt: skip
def test_another_question_needs_another_study(world, capsys, change, told):
    run(world)
    capsys.readouterr()
    assert run(world, *change) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        f"error: study {study(world)} was begun with something else; give another --study, or change it back"
    )
    assert len(lines) == 2 and lines[1].startswith(f"error: {told}")
    assert world.judged == 5
    assert run(world, *change, "--study", str(world.folder / "other")) == command.STOPPED


def test_a_changed_space_or_log_is_refused(world, capsys):
    run(world)
    before = (study(world) / "best.yaml").read_text()
    (world.folder / "item_knn.yaml").write_text(SPACES["item_knn"].replace("1.2", "1.5"))
    (world.folder / "log.csv").write_text("user_id,item_id,timestamp\nu,i,2026-01-01\n")
    capsys.readouterr()
    assert run(world) == 2
    told = capsys.readouterr().err
    assert "item_knn space, baselines.item_knn.user_power: was {'high': 1.2" in told
    assert "paths.events: the files have changed since" in told
    assert (study(world) / "best.yaml").read_text() == before


def test_what_no_model_depends_on_may_change(world):
    run(world)
    world.patience = 6
    assert run(world, "--set", "publish.files=9") == command.STOPPED
    assert world.judged == 6 and load(study(world) / "best.yaml").publish.files == 9


def test_what_the_fusion_depends_on_may_not_change_where_all_models_are_searched_together(world, capsys):
    changes = [["--set", "evaluate.confidence=0.5"], ["--set", "score.fusion_users=9"]]
    run(world, spaces=["fused"])
    head = (study(world, "fused") / "best.yaml").read_text().splitlines()[1]
    assert head.startswith("# NDCG@10 of the users whom the fusion is learned on")
    for change in changes:
        capsys.readouterr()
        assert run(world, *change, spaces=["fused"]) == 2
        assert f"{change[1].split('=')[0]}: was " in capsys.readouterr().err
    run(world)
    assert all(run(world, *change) == command.STOPPED for change in changes)


def test_groups_share_the_minutes_and_the_overlay(world, monkeypatch):
    shares = []

    def one_trial(self, start, objective, deadline, after):
        shares.append((self.group.model, deadline - time.monotonic(), start))
        self._judge_start(start, objective)
        after(self)

    monkeypatch.setattr(Search, "run", one_trial)
    assert run(world, spaces=("item_knn", "als"), minutes="2") == 0
    (first, some, _), (second, rest, start) = shares
    assert (first, second) == ("item_knn", "als")
    assert some == pytest.approx(60, abs=10) and rest == pytest.approx(120, abs=20)
    assert start == {"baselines.als.factors": 64, "baselines.als.regularization": 5.0}
    best = load(study(world, "item_knn+als") / "best.yaml")
    assert (best.baselines.item_knn.user_power, best.baselines.als.factors) == (0.3, 64)


def test_without_optuna_it_says_what_to_install():
    code = "import sys; sys.modules['optuna'] = None; from recsys_spark.tune.__main__ import main; sys.exit(main())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert result.returncode == 1
    assert result.stderr == "error: a search needs Optuna; pip install 'recsys_spark[tune]'\n"


def test_faults_of_config_and_space_are_told_before_anything_runs(world, capsys):
    assert run(world, "--set", "score.topn=3") == 2
    (world.folder / "als.yaml").write_text("als: {baselines.als.factor: [1, 2]}")
    assert run(world, spaces=("als",)) == 2
    assert "did you mean factors?" in capsys.readouterr().err
    assert not (world.folder / "root").exists() and world.judged == 0
