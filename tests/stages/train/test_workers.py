"""Training workers as processes: one, two under Horovod, killed, failing, and with a job that dies before them."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from recsys_spark.errors import TrainingFailed
from recsys_spark.models import base
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.stages.train import launch as launching
from recsys_spark.stages.train import workers
from recsys_spark.stages.train.loop import Communicator, train
from stages.train.synthetic_examples import (
    batches_of,
    circle,
    examples_of,
    make_job,
    make_network,
    make_plan,
    validation_set,
    write_features,
)
from stages.train.two_ranks import CASES

pytestmark = pytest.mark.workers

ITEMS, LENGTH, GROUPS = 25, 8, 4
REPO = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Return (folder, rows) of a features stage over the circle."""
    folder = tmp_path_factory.mktemp("features")
    histories, next_items = circle()
    return folder, write_features(folder, histories, next_items, n_items=ITEMS, length=LENGTH, row_groups=GROUPS)


def job_of(features, output, *, epochs=3, **settings):
    folder, rows = features
    return make_job(folder, output, examples=rows, n_items=ITEMS, length=LENGTH, epochs=epochs, **settings)


def launch(job, n=1):
    launching.launch(job, workers=n, launcher="local", threads=1, timeout_s=60)


def on_two_ranks(*arguments, **environment):
    """Return the output of Python with `arguments` as two Horovod ranks."""
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    command = [*launching.as_ranks(2), sys.executable, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processes(job):
    """Return every live process of `job`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(str(job.output) in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return [p for p in found if p.pid != os.getpid()]


def ranks(job):
    return [p for p in processes(job) if "HOROVOD_RANK" in p.environ() and "recsys_spark.stages.train" in p.cmdline()]


def gone(job, seconds=15):
    deadline = time.monotonic() + seconds
    while processes(job) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes(job)


def test_one_worker_writes_a_model_and_logs_its_epochs(features, tmp_path, caplog):
    job = job_of(features, tmp_path / "train", epochs=2)
    with caplog.at_level(logging.INFO):
        launch(job)
    logged = [record.message for record in caplog.records if record.name == launching.__name__]
    assert [line.split(":")[1] for line in logged] == [" epoch 1/2", " epoch 2/2"]
    assert "validation ndcg@5" in logged[0]
    training = json.loads((tmp_path / "train" / "training.json").read_text())
    assert (training["workers"], len(training["epochs"]), training["device"]) == (1, 2, "cpu")
    assert set(training["epochs"][0]) == {
        "epoch",
        "loss",
        "ndcg",
        "learning_rate",
        "seconds",
        "examples_per_s",
    }
    model = base.load(tmp_path / "train" / "network", {"network": NetworkModel})
    assert model.arrays["items"].shape == (ITEMS, 8 + 1)
    assert model.parameters["n_features"] == 1
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == [
        "checkpoints",
        "network",
        "training.json",
    ]


def test_a_worker_that_trains_on_whole_users(tmp_path):
    histories, next_items = circle()
    shape = {"n_items": ITEMS, "length": LENGTH, "kind": "users"}
    rows = write_features(tmp_path / "features", histories, next_items, row_groups=GROUPS, **shape)
    assert rows == len(histories)
    settings = {"encoder": "attention", "layers": 2, "batch_size": 24}
    job = make_job(tmp_path / "features", tmp_path / "train", examples=rows, epochs=20, **shape, **settings)
    launch(job)
    training = json.loads((tmp_path / "train" / "training.json").read_text())
    assert max(epoch["ndcg"] for epoch in training["epochs"]) > 0.95
    model = base.load(tmp_path / "train" / "network", {"network": NetworkModel})
    assert (model.parameters["encoder"], model.parameters["examples"]) == ("attention", "users")
    assert {"encoder.blocks.1.inner.weight", "encoder.place.weight"} <= model.arrays.keys()


def test_gradients_are_averaged_over_the_ranks():
    """Dense and sparse gradients; a parameter without gradient stays without."""
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    code = """
import torch
from recsys_spark.stages.train.workers import HorovodCommunicator
ranks, means = HorovodCommunicator(), []
dense, table, unused = (torch.nn.Parameter(torch.zeros(3, 2)) for _ in range(3))
for step in range(3):
    dense.grad = torch.full((3, 2), 1.0 + step + ranks.rank)
    table.grad = torch.sparse_coo_tensor([[ranks.rank]], [[step + 2.0, 4.0]], (3, 2))
    ranks.average_gradients([dense, table, unused])
    means.append((dense.grad.unique().tolist(), table.grad.is_sparse, table.grad.to_dense().tolist(), unused.grad))
print("MEANS", means)
"""
    output = on_two_ranks("-c", code)
    printed = [line.split("MEANS ")[1] for line in output.splitlines() if "MEANS " in line]
    means = [([1.5 + step], True, [[1 + step / 2, 2.0], [1 + step / 2, 2.0], [0.0, 0.0]], None) for step in range(3)]
    assert printed == [str(means)] * 2


def test_a_failing_worker_is_reported_with_its_error(features, tmp_path):
    job = job_of((tmp_path / "nowhere", features[1]), tmp_path / "train")
    with pytest.raises(TrainingFailed) as caught:
        launch(job)
    message = str(caught.value)
    assert message.startswith("training worker ended with exit code 1: StageMissing: table item_counts is not at ")
    assert message.endswith(". Run the job again to continue from the last checkpoint")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    out = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("two_ranks.py")
    on_two_ranks(str(script), str(out))
    return {
        (name, case, rank): np.load(out / f"{name}-{case}-{rank}.npz")
        for name in ("full", "resumed")
        for case in CASES
        for rank in (0, 1)
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", [("full", 1), ("resumed", 0), ("resumed", 1)])
def test_ranks_end_with_the_same_weights_also_when_resumed(two_ranks, case, other):
    expected, found = two_ranks["full", case, 0], two_ranks[other[0], case, other[1]]
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_two_ranks_equal_one_rank_of_twice_the_batch(two_ranks, tmp_path):
    """Gradients are averaged and metrics summed, so two half batches equal one batch at twice the rate."""
    histories, next_items = circle()
    examples = examples_of(histories, LENGTH)
    network = make_network(ITEMS, LENGTH)
    progress = train(
        network,
        make_plan(3, len(examples.items) // 64, learning_rate=0.02),
        batches=batches_of(examples, 64),
        sampler=None,
        validation_set=validation_set(histories, next_items),
        communicator=Communicator(),
        checkpoints=tmp_path,
    )
    found = two_ranks["full", "full", 0]
    np.testing.assert_allclose(found["loss"], [entry["loss"] for entry in progress.epochs], rtol=1e-3)
    np.testing.assert_allclose(found["ndcg"], [entry["ndcg"] for entry in progress.epochs], atol=0.02)
    untrained = make_network(ITEMS, LENGTH).state_dict()
    for name, tensor in network.state_dict().items():
        moved = float((tensor - untrained[name]).abs().max())
        assert float((tensor - torch.from_numpy(found[name])).abs().max()) <= 0.05 * moved, name


def test_a_killed_rank_ends_all_and_the_next_run_continues(features, tmp_path, caplog):
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    job = job_of(features, tmp_path / "train", epochs=400, patience=400)
    killed_at = []

    def kill():
        checkpoint = job.checkpoints / "last.safetensors"
        while not checkpoint.exists():
            time.sleep(0.05)
        victims = ranks(job)
        killed_at.append((len(victims), time.monotonic()))
        victims[-1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(
        TrainingFailed, match=r"training worker \d was killed by signal 9: .*\. Run the job again"
    ) as caught:
        launch(job, 2)
    found, at = killed_at[0]
    seconds = time.monotonic() - at
    assert found == 2
    assert seconds < 20, caught.value
    assert gone(job)
    assert not (tmp_path / "train" / "network").exists()
    with caplog.at_level(logging.INFO):
        launch(job_of(features, tmp_path / "train", epochs=3), 1)
    assert any("training goes on after epoch" in record.message for record in caplog.records)
    assert (tmp_path / "train" / "network").exists()


@pytest.mark.parametrize("n", [1, 2])
def test_workers_end_with_the_job_that_started_them(features, tmp_path, n):
    job = job_of(features, tmp_path / "train", epochs=100_000, patience=100_000)
    job.write(tmp_path / "job-copy.json")
    code = (
        "import sys; from pathlib import Path; from recsys_spark.stages.train.launch import launch\n"
        "from recsys_spark.stages.train.job_file import Job\n"
        f"launch(Job.read(Path(sys.argv[1])), workers={n}, launcher='local', threads=1, timeout_s=60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job-copy.json")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (job.checkpoints / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(job)
    driver.kill()
    driver.wait()
    assert gone(job)


@pytest.mark.parametrize(
    ("code", "lines", "expected"),
    [
        (-9, [], "training worker was killed by signal 9: no output"),
        (3, ["a", "b"], "training worker ended with exit code 3: b"),
        (1, ["[fault] ValueError: x", "noise"], "training worker ended with exit code 1: ValueError: x"),
        (
            1,
            [
                "Process 1 exit with status code 137.",
                "[fault] HorovodInternalError: lost",
                "Process 0 exit with status code 1.",
            ],
            "training worker 1 was killed by signal 9: HorovodInternalError: lost",
        ),
    ],
)
def test_a_failure_is_one_line(code, lines, expected):
    assert (
        launching.explain(code, deque(lines)) == expected + ". Run the job again to continue from the last checkpoint"
    )


def test_ranks_in_executors(features, tmp_path, spark, caplog):
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    before = signal.getsignal(signal.SIGTERM)
    job = job_of(features, tmp_path / "train", epochs=2)
    with caplog.at_level(logging.INFO):
        launching.launch(job, workers=2, launcher="spark", threads=1, timeout_s=60)
    assert json.loads((tmp_path / "train" / "training.json").read_text())["workers"] == 2
    assert any("epoch 2/2" in record.message for record in caplog.records)
    assert signal.getsignal(signal.SIGTERM) == before
    broken = job_of((tmp_path / "nowhere", features[1]), tmp_path / "broken")
    with pytest.raises(TrainingFailed, match="StageMissing: table item_counts is not at .*nowhere"):
        launching.launch(broken, workers=2, launcher="spark", threads=1, timeout_s=60)
    assert gone(broken)


@pytest.mark.parametrize("local_size", [1, 2, 100])
def test_ranks_share_the_cores_of_the_machine(monkeypatch, local_size):
    cores, chosen = set(range(3, 9)), []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, own: chosen.append(own))
    for rank in range(min(local_size, 2)):
        workers.stay_on_own_cores(rank, local_size)
    assert chosen == {1: [[3, 4, 5, 6, 7, 8]], 2: [[3, 4, 5], [6, 7, 8]], 100: []}[local_size]
