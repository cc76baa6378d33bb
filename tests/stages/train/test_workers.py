"""Real workers: one, two under Horovod, one that is killed, one that fails, and a job that dies before them."""

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
from recsys_spark.stages.train.loop import Communicator, train
from recsys_spark.stages.train.workers import HorovodCommunicator, stay_on_own_cores
from stages.train.synthetic_examples import (
    batches_of,
    circle,
    examples_of,
    held,
    make_job,
    make_network,
    make_plan,
    write_features,
)
from stages.train.two_ranks import CASES

ITEMS, LENGTH, GROUPS = 25, 8, 4
REPO = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """(folder, rows) of a features stage over the circle."""
    folder = tmp_path_factory.mktemp("features")
    histories, answers = circle()
    return folder, write_features(folder, histories, answers, n_items=ITEMS, length=LENGTH, row_groups=GROUPS)


def job_of(features, output, *, epochs=3, **settings):
    folder, rows = features
    return make_job(folder, output, examples=rows, n_items=ITEMS, length=LENGTH, epochs=epochs, **settings)


def launch(job, n=1):
    launching.launch(job, workers=n, launcher="local", threads=1, timeout_s=60)


def on_two_ranks(*arguments, **environment):
    """What Python with `arguments` says as two ranks of Horovod."""
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    command = [*launching.horovodrun(2), sys.executable, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processes(job):
    """Every live process that works on `job`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(job.output in part for part in process.cmdline()):
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


def test_one_worker_writes_a_model_and_tells_of_it(features, tmp_path, caplog):
    job = job_of(features, tmp_path / "train", epochs=2)
    with caplog.at_level(logging.INFO):
        launch(job)
    told = [record.message for record in caplog.records if record.name == launching.__name__]
    assert [line.split(":")[1] for line in told] == [" epoch 1/2", " epoch 2/2"]
    assert "valid ndcg@5" in told[0]
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


def test_a_worker_that_learns_from_users(tmp_path):
    histories, answers = circle()
    world = {"n_items": ITEMS, "length": LENGTH, "kind": "users"}
    rows = write_features(tmp_path / "features", histories, answers, row_groups=GROUPS, **world)
    assert rows == len(histories)
    settings = {"encoder": "attention", "layers": 2, "batch_size": 24}
    job = make_job(tmp_path / "features", tmp_path / "train", examples=rows, epochs=20, **world, **settings)
    launch(job)
    training = json.loads((tmp_path / "train" / "training.json").read_text())
    assert max(epoch["ndcg"] for epoch in training["epochs"]) > 0.95
    model = base.load(tmp_path / "train" / "network", {"network": NetworkModel})
    assert (model.parameters["encoder"], model.parameters["examples"]) == ("attention", "users")
    assert {"encoder.blocks.1.inner.weight", "encoder.place.weight"} <= model.arrays.keys()


def test_a_rank_of_its_own_asks_nobody_for_the_means():
    alone = HorovodCommunicator.__new__(HorovodCommunicator)
    alone.size, alone.hvd = 1, None
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1, 2))]
    parameters[0].grad = torch.tensor([1.0, 2.0])
    parameters[1].grad = torch.tensor([[0.0, 3.0]]).to_sparse()
    alone.average(parameters)
    assert [p.grad.to_dense().tolist() for p in parameters] == [[1, 2], [[0, 3]]]


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "shares"),
    [
        ({0, 1}, 1, 2, [[0, 1]]),
        ({0, 1}, 2, 1, [[0], [1]]),
        ({2, 3, 5, 8, 9}, 2, 1, [[2, 3], [5, 8]]),
        ({0, 1, 2, 3}, 2, 3, [None, None]),
        ({4}, 2, 1, [None, None]),
    ],
)
def test_workers_of_a_machine_share_its_cores(monkeypatch, cores, workers, threads, shares):
    kept = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, to: kept.append(to), raising=False)
    for local_rank, share in enumerate(shares):
        worker = Communicator()
        worker.local_rank, worker.local_size = local_rank, workers
        kept.clear()
        stay_on_own_cores(worker, threads)
        assert kept == ([] if share is None else [share])


def test_a_rank_computes_on_its_own_core_while_horovod_is_free():
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a machine of one core")
    code = """
import contextlib, os
from recsys_spark.stages.train.workers import HorovodCommunicator, stay_on_own_cores
every = os.sched_getaffinity(0)
ranks = HorovodCommunicator()
stay_on_own_cores(ranks, 1)
others = set()
for thread in os.listdir("/proc/self/task"):
    with contextlib.suppress(ProcessLookupError):
        others.add(frozenset(os.sched_getaffinity(int(thread))))
print("TOLD", ranks.local_rank, sorted(os.sched_getaffinity(0)), frozenset(every) in others)
"""
    said = on_two_ranks("-c", code)
    told = sorted(line.split("TOLD ")[1] for line in said.splitlines() if "TOLD " in line)
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    assert told == [f"0 {cores[:half]} True", f"1 {cores[half : 2 * half]} True"]


def test_an_exchange_does_not_wait_for_the_cycle():
    """Horovod as it comes would let each of the six exchanges wait for the end of a cycle."""
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    cycle_s = 3
    code = """
import time, torch
from recsys_spark.stages.train.workers import HorovodCommunicator
ranks, parameter, means, clock = HorovodCommunicator(), torch.nn.Parameter(torch.zeros(2, 3)), [], time.monotonic()
for step in range(6):
    parameter.grad = torch.full((2, 3), 1.0 + step + ranks.rank)
    ranks.average([parameter])
    means += parameter.grad.unique().tolist()
print("TOLD", means, time.monotonic() - clock)
"""
    said = on_two_ranks("-c", code, HOROVOD_CYCLE_TIME=str(1000 * cycle_s))
    told = [line.split("TOLD ")[1] for line in said.splitlines() if "TOLD " in line]
    assert len(told) == 2
    for line in told:
        means, seconds = line.rsplit(" ", 1)
        assert means == str([1.5 + step for step in range(6)])
        assert float(seconds) < cycle_s


def test_a_failing_worker_is_named_with_what_it_said(features, tmp_path):
    job = job_of((tmp_path / "nowhere", features[1]), tmp_path / "train")
    with pytest.raises(TrainingFailed) as caught:
        launch(job)
    said = str(caught.value)
    assert said.startswith("training worker ended with exit code 1: StageMissing: table item_features is not at ")
    assert said.endswith("; run again, and training goes on from its last checkpoint")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    out = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("two_ranks.py")
    on_two_ranks(str(script), str(out))
    return {
        (name, case, rank): np.load(out / f"{name}-{case}-{rank}.npz")
        for name in ("whole", "resumed")
        for case in CASES
        for rank in (0, 1)
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", [("whole", 1), ("resumed", 0), ("resumed", 1)])
def test_ranks_end_with_the_same_weights_also_after_an_interruption(two_ranks, case, other):
    expected, found = two_ranks["whole", case, 0], two_ranks[other[0], case, other[1]]
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_two_ranks_equal_one_of_twice_the_batch(two_ranks, tmp_path):
    """Gradients are averaged, metrics summed: half a batch on each of two ranks is a whole one on one, at twice the rate."""
    histories, answers = circle()
    examples = examples_of(histories, LENGTH)
    network = make_network(ITEMS, LENGTH)
    progress = train(
        network,
        make_plan(3, len(examples.items) // 64, learning_rate=0.02),
        batches=batches_of(examples, 64),
        candidates=None,
        held=held(histories, answers),
        communicator=Communicator(),
        checkpoints=tmp_path,
    )
    found = two_ranks["whole", "full", 0]
    np.testing.assert_allclose(found["loss"], [entry["loss"] for entry in progress.epochs], rtol=1e-3)
    np.testing.assert_allclose(found["ndcg"], [entry["ndcg"] for entry in progress.epochs], atol=0.02)
    untrained = make_network(ITEMS, LENGTH).state_dict()
    for name, tensor in network.state_dict().items():
        moved = float((tensor - untrained[name]).abs().max())
        assert float((tensor - torch.from_numpy(found[name])).abs().max()) <= 0.05 * moved, name


def test_a_killed_rank_takes_all_down_and_the_next_run_goes_on(features, tmp_path, caplog):
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    job = job_of(features, tmp_path / "train", epochs=400, patience=400)
    killed_at = []

    def kill():
        checkpoint = Path(job.checkpoints) / "last.safetensors"
        while not checkpoint.exists():
            time.sleep(0.05)
        victims = ranks(job)
        killed_at.append((len(victims), time.monotonic()))
        victims[-1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(TrainingFailed, match=r"training worker \d was killed by signal 9: .*; run again") as caught:
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
        "import sys; from pathlib import Path; from recsys_spark.stages.train.launch import launch; from recsys_spark.stages.train.job_file import Job\n"
        f"launch(Job.read(Path(sys.argv[1])), workers={n}, launcher='local', threads=1, timeout_s=60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job-copy.json")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (Path(job.checkpoints) / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(job)
    driver.kill()
    driver.wait()
    assert gone(job)


@pytest.mark.parametrize(
    ("code", "lines", "expected"),
    [
        (-9, [], "training worker was killed by signal 9: it said nothing"),
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
        launching.explain(code, deque(lines)) == expected + "; run again, and training goes on from its last checkpoint"
    )


def test_ranks_in_the_executors(features, tmp_path, spark, caplog):
    pytest.importorskip("horovod.torch", reason="horovod is not installed")
    before = signal.getsignal(signal.SIGTERM)
    job = job_of(features, tmp_path / "train", epochs=2)
    with caplog.at_level(logging.INFO):
        launching.launch(job, workers=2, launcher="spark", threads=1, timeout_s=60)
    assert json.loads((tmp_path / "train" / "training.json").read_text())["workers"] == 2
    assert any("epoch 2/2" in record.message for record in caplog.records)
    assert signal.getsignal(signal.SIGTERM) == before
    broken = job_of((tmp_path / "nowhere", features[1]), tmp_path / "broken")
    with pytest.raises(TrainingFailed, match="StageMissing: table item_features is not at .*nowhere"):
        launching.launch(broken, workers=2, launcher="spark", threads=1, timeout_s=60)
    assert gone(broken)
