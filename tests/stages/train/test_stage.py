"""The train stage without Spark: the job of each pass, the files it leaves, and when it is skipped."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from factories import finish_stage, make_context
from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.errors import ContractViolation, StageMissing, TrainingFailed
from recsys_spark.models import base
from recsys_spark.models.item_knn import ItemKnnModel
from recsys_spark.models.svd import SvdModel
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.stages.train import stage
from recsys_spark.stages.train.checkpoint import read_state
from recsys_spark.stages.train.job_file import WEIGHTS
from recsys_spark.stages.train.launch import launch
from recsys_spark.stages.train.task import read_neighbours, read_start, read_weights
from recsys_spark.storage import manifest
from stages.train.synthetic_examples import circle, make_network, write_features

pytestmark = pytest.mark.workers

ITEMS, LENGTH = 25, 8
SMALL = {"dimension": 8, "hidden": 16, "batch_size": 64, "epochs": 3, "dropout": 0.0}


def prepare(root, examples=None, **train):
    """Return the context of a run whose clean and features stages are done."""
    models = ["popularity", "item_knn", "svd"]
    context = make_context(root, baselines={"models": models}, train={**SMALL, **train})
    finish_stage(context, "clean", None, {}, n_items=ITEMS)
    for pass_name in (BACKTEST, RELEASE):

        def work(folder):
            histories, next_items = circle()
            rows = write_features(folder, histories, next_items, n_items=ITEMS, length=LENGTH, row_groups=2)
            return {"examples": rows if examples is None else examples, "features": 1}

        settings = {"history_length": LENGTH, "examples": "targets"}
        manifest.run_stage(context.layout, "features", pass_name, inputs={}, settings=settings, work=work)
    return context


def training(context, pass_name):
    return json.loads((context.layout.stage("train", pass_name) / "training.json").read_text())


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """Both passes trained. At this learning rate every epoch is better than the one before."""
    context = prepare(tmp_path_factory.mktemp("train"), learning_rate=0.01)
    stage.run(context, BACKTEST)
    stage.run(context, RELEASE)
    return context


def test_the_stage_writes_a_model_and_its_epochs(context):
    folder = context.layout.stage("train", BACKTEST)
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "network", "training.json"]
    written = training(context, BACKTEST)
    best = max(written["epochs"], key=lambda entry: entry["ndcg"])
    counts = manifest.require(context.layout, "train", BACKTEST).counts
    assert (counts["best_epoch"], counts["valid_ndcg"]) == (best["epoch"], best["ndcg"])
    assert (counts["epochs"], counts["workers"], counts["device"]) == (len(written["epochs"]), 1, "cpu")


def test_the_release_trains_for_the_best_epochs_of_the_backtest(context):
    best = training(context, BACKTEST)["best_epoch"]
    release = training(context, RELEASE)
    assert len(release["epochs"]) == release["best_epoch"] == best
    assert {entry["ndcg"] for entry in release["epochs"]} == {None}


def test_the_release_has_the_epoch_limit_of_the_backtest(tmp_path):
    context = prepare(tmp_path, learning_rate=0.01, minutes=1e-6)
    for pass_name in (BACKTEST, RELEASE):
        stage.run(context, pass_name)
    backtest, release = (training(context, name) for name in (BACKTEST, RELEASE))
    assert SMALL["epochs"] > backtest["planned_epochs"] == release["planned_epochs"] == 2
    assert len(release["epochs"]) == backtest["best_epoch"] == 2
    assert release["epochs"][-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


def test_the_release_may_start_from_the_backtest(tmp_path):
    """It starts from the backtest's weights, for warm_epochs epochs, at whose end the learning rate is 0."""
    context = prepare(tmp_path, learning_rate=0.01, warm_epochs=2)
    for pass_name in (BACKTEST, RELEASE):
        stage.run(context, pass_name)
    backtest, release = (training(context, name) for name in (BACKTEST, RELEASE))
    losses = [[entry["loss"] for entry in written["epochs"]] for written in (backtest, release)]
    assert len(losses[1]) == 2
    assert losses[1][0] < losses[0][-1] < losses[0][0]
    assert release["epochs"][-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


def test_the_release_starts_from_the_best_epoch_but_keeps_new_items(tmp_path):
    context = prepare(tmp_path, warm_epochs=1)
    stage.run(context, BACKTEST)
    kept = context.layout.table("train", BACKTEST, WEIGHTS)
    weights, trained = read_weights(kept)
    assert trained.tolist() == [False] + [True] * (ITEMS - 1)  # the padding item has no pairs
    network = make_network(ITEMS, LENGTH, n_features=1)
    rows = network.items.ids.weight.detach().clone()
    trained[7] = False
    network.start_from(weights, trained)
    started = network.items.ids.weight
    assert torch.equal(started[~trained], rows[~trained])
    assert torch.equal(started[trained], weights["items.ids.weight"][trained])
    model = base.load(context.layout.table("train", BACKTEST, "network"), {"network": NetworkModel})
    for name, tensor in network.users.state_dict().items():
        np.testing.assert_array_equal(tensor, model.arrays["encoder." + name])


def test_missing_and_unreadable_weights_are_errors(tmp_path):
    context = prepare(tmp_path)
    stage.run(context, BACKTEST)
    later = make_context(tmp_path, train={**SMALL, "warm_epochs": 1})
    with pytest.raises(
        StageMissing, match="weights: no saved weights, because the backtest ran with train.warm_epochs = null"
    ):
        stage.run(later, RELEASE)
    stage.run(later, BACKTEST)
    for file in later.layout.table("train", BACKTEST, WEIGHTS).iterdir():
        file.write_bytes(b"not a tensor")
    with pytest.raises(TrainingFailed, match="the weights of the backtest cannot be read. Train it again with --force"):
        stage.run(later, RELEASE)


def test_a_finished_training_is_skipped(context, monkeypatch):
    monkeypatch.setattr(stage, "launch", None)
    stage.run(context, BACKTEST)
    stage.run(context, RELEASE)


def test_disabled_training_writes_a_manifest_and_reads_nothing(tmp_path):
    context = make_context(tmp_path, train={"enabled": False})
    for pass_name in (BACKTEST, RELEASE):
        stage.run(context, pass_name)
        folder = context.layout.stage("train", pass_name)
        assert [p.name for p in folder.iterdir()] == ["manifest.json"]
        assert manifest.read(folder).counts == {}


def test_a_network_that_the_backtest_dropped_is_not_trained_in_the_release(tmp_path):
    context = prepare(tmp_path)
    finish_stage(context, "score", BACKTEST, {}, dropped=["network"])
    stage.run(context, RELEASE)  # does not need the training of the backtest
    folder = context.layout.stage("train", RELEASE)
    assert [p.name for p in folder.iterdir()] == ["manifest.json"]
    assert manifest.read(folder).counts == {}


def test_the_network_may_start_at_singular_vectors(tmp_path, monkeypatch):
    """Factors that the svd does not have are 0. A new svd model makes the network train again."""
    context = prepare(tmp_path, start="svd")
    model = SvdModel(
        ITEMS,
        {},
        {
            "items": np.random.default_rng(1).normal(size=(ITEMS, 5)).astype(np.float32),
            "weights": np.ones(ITEMS),
            "spectrum": np.arange(5, 0, -1.0),
        },
    )
    finish_stage(context, "baselines", BACKTEST, {})
    base.save(context.layout.table("baselines", BACKTEST, "svd"), model)
    jobs = []
    monkeypatch.setattr(stage, "launch", lambda job, **_: jobs.append(job) or launch(job, **_))
    stage.run(context, BACKTEST)
    vectors, weights = read_start(jobs[0].start, SMALL["dimension"])
    expected = model.arrays["items"] * np.sqrt(model.arrays["spectrum"])
    np.testing.assert_allclose(vectors, np.pad(expected, ((0, 0), (0, 3))), rtol=1e-6)
    assert weights.tolist() == [1] * ITEMS
    finish_stage(context, "baselines", BACKTEST, {}, {"svd": {"user_power": 0.5}})
    base.save(context.layout.table("baselines", BACKTEST, "svd"), model)
    stage.run(context, BACKTEST)
    assert len(jobs) == 2


def test_the_network_reads_neighbours_of_item_knn(tmp_path, monkeypatch):
    """It reads the most similar items and their shares. A new item_knn model makes the network train again."""
    context = prepare(tmp_path, neighbours=2)
    similar = sp.random(ITEMS, ITEMS, density=0.3, random_state=2, format="csr", dtype=np.float32)
    arrays = {
        "indptr": similar.indptr.astype(np.int64),
        "neighbours": similar.indices,
        "similarities": similar.data,
    }
    model = ItemKnnModel(ITEMS, {}, arrays)
    finish_stage(context, "baselines", BACKTEST, {})
    base.save(context.layout.table("baselines", BACKTEST, "item_knn"), model)
    jobs = []
    monkeypatch.setattr(stage, "launch", lambda job, **_: jobs.append(job) or launch(job, **_))
    stage.run(context, BACKTEST)
    near, shares = read_neighbours(jobs[0].neighbours, 2)
    assert torch.equal(near, torch.from_numpy(model.nearest(2)[0]).long())
    counts = np.minimum(np.diff(similar.indptr), 2)
    torch.testing.assert_close(shares.sum(dim=1), torch.from_numpy((counts > 0).astype(np.float32)))
    assert ((shares > 0).sum(dim=1).numpy() == counts).all()
    finish_stage(context, "baselines", BACKTEST, {}, {"item_knn": {"user_power": 0.25}})
    base.save(context.layout.table("baselines", BACKTEST, "item_knn"), model)
    stage.run(context, BACKTEST)
    assert len(jobs) == 2


def test_a_dropped_baseline_is_fitted_if_the_network_starts_from_it(tmp_path):
    models = {"models": ["popularity", "svd"]}
    for start, fitted in (("svd", ["popularity", "svd", "network"]), ("random", ["popularity", "network"])):
        context = make_context(tmp_path / start, baselines=models, train={"start": start})
        finish_stage(context, "score", BACKTEST, {}, dropped=["svd"])
        assert (context.fitted(RELEASE), context.models(RELEASE)) == (fitted, ["popularity", "network"])
    context = make_context(tmp_path / "dropped", baselines=models, train={"start": "svd"})
    finish_stage(context, "score", BACKTEST, {}, dropped=["svd", "network"])
    assert context.fitted(RELEASE) == ["popularity"]


def test_no_training_examples_are_an_error(tmp_path):
    with pytest.raises(
        ContractViolation, match="no training examples, because no user has two items. Set train.enabled to false"
    ):
        stage.run(prepare(tmp_path, examples=0), BACKTEST)


class Stop(Exception):
    pass


def test_watch_reads_every_epoch_and_may_end_the_training(tmp_path):
    context, seen = prepare(tmp_path, learning_rate=0.01), []

    def watch(checkpoints):
        seen.append([entry["epoch"] for entry in read_state(checkpoints)["epochs"]])
        if seen == [[1], [1, 2]]:
            raise Stop

    with pytest.raises(Stop):
        stage.run(context, BACKTEST, watch)
    assert manifest.read(context.layout.stage("train", BACKTEST)) is None
    stage.run(context, BACKTEST, watch)  # called first for the line that training goes on
    assert seen[2:] == [[1, 2], [1, 2, 3]]
    assert [entry["epoch"] for entry in training(context, BACKTEST)["epochs"]] == [1, 2, 3]


def test_a_failed_training_keeps_its_checkpoint_for_the_same_training_only(tmp_path, monkeypatch):
    seen = []

    def fail(job, **_):
        seen.append(job.checkpoints)
        existed = seen[-1].exists()
        seen[-1].mkdir(parents=True, exist_ok=True)
        raise TrainingFailed(f"had a checkpoint: {existed}")

    monkeypatch.setattr(stage, "launch", fail)
    context = prepare(tmp_path)
    for existed in ("False", "True"):
        with pytest.raises(TrainingFailed, match=f"had a checkpoint: {existed}"):
            stage.run(context, BACKTEST)
    other = make_context(tmp_path, train={**SMALL, "seed": 8})
    with pytest.raises(TrainingFailed, match="had a checkpoint: False"):
        stage.run(other, BACKTEST)
    assert seen[0] == seen[1] != seen[2]
    assert not seen[0].exists()
    assert manifest.read(context.layout.stage("train", BACKTEST)) is None


def test_the_job_has_the_settings_of_the_config(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(stage, "launch", lambda job, **_: jobs.append(job) or launch(job, **_))
    stage.run(prepare(tmp_path, temperature=0.3, warm_epochs=1), BACKTEST)
    settings = jobs[0].settings
    assert (settings.temperature, settings.warm_epochs, settings.dimension) == (0.3, 1, SMALL["dimension"])


@pytest.mark.parametrize(
    ("cores", "settings", "expected"),
    [
        (8, {}, 8),
        (8, {"workers": 2}, 4),
        (8, {"workers": 3}, 2),
        (1, {"workers": 2}, 1),
        (8, {"threads": 3}, 3),
    ],
)
def test_local_workers_share_the_cores(tmp_path, monkeypatch, cores, settings, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    row_groups = {"row_groups": 6}
    assert stage.worker_threads(make_context(tmp_path, features=row_groups, train=settings)) == expected


def test_a_worker_in_an_executor_has_the_cores_of_a_task(tmp_path, monkeypatch):
    context = make_context(tmp_path, train={"launcher": "spark"})
    session = SimpleNamespace(sparkContext=SimpleNamespace(getConf=lambda: {"spark.task.cpus": "4"}))
    monkeypatch.setattr(type(context), "spark", session)
    assert stage.worker_threads(context) == 4
