"""Checkpoints restore every bit, are replaced at once, and a broken one is not used."""

import json
import logging
from functools import partial

import pytest
import torch

from recsys_spark.stages.train import checkpoint


def test_groups_and_state_come_back_bit_for_bit(tmp_path):
    groups = {
        "network": {"a.b": torch.randn(3, 2), "c": torch.tensor(7)},
        "best": {"a.b": torch.tensor([float("inf"), 1e-42])},
    }
    state = {"epochs": [{"loss": 0.1 + 0.2, "ndcg": None}], "best_ndcg": float("-inf")}
    checkpoint.save(tmp_path / "x", {**groups, "none": {}}, state)
    loaded, loaded_state = checkpoint.load(tmp_path / "x")
    assert json.dumps(loaded_state) == json.dumps(state)
    assert {g: set(named) for g, named in loaded.items()} == {g: set(named) for g, named in groups.items()}
    for group, named in groups.items():
        for name, tensor in named.items():
            assert torch.equal(loaded[group][name], tensor)


def test_a_new_checkpoint_replaces_the_old_one(tmp_path):
    for epoch in (1, 2):
        checkpoint.save(tmp_path, {"network": {"w": torch.tensor([epoch])}}, {"epoch": epoch})
    assert checkpoint.load(tmp_path)[1] == {"epoch": 2}
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]


@pytest.mark.parametrize("cut", [0, 5, 60])
def test_a_broken_checkpoint_is_logged_and_not_used(tmp_path, caplog, cut):
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, {"network": {"w": torch.randn(20)}}, {"epoch": 1})
    path = tmp_path / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:cut])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(tmp_path) is None
    assert str(path) in caplog.text
    assert "Training starts from the beginning" in caplog.text


AdamW = partial(torch.optim.AdamW, fused=True)


def weights_after(steps, optimizer, weight, sparse):
    for step in steps:
        gradient = torch.full((4, 2), float(step))
        weight.grad = gradient.to_sparse(1) if sparse else gradient
        optimizer.step()
    return weight.detach().clone()


@pytest.mark.parametrize(("kind", "sparse"), [(AdamW, False), (torch.optim.SparseAdam, True)])
def test_a_restored_optimizer_continues_to_the_same_bits(kind, sparse):
    full, half, resumed = (torch.nn.Parameter(torch.ones(4, 2)) for _ in range(3))
    expected = weights_after([1, 2, 3, 4], kind([full], lr=0.1), full, sparse)
    first = kind([half], lr=0.1)
    resumed.data = weights_after([1, 2], first, half, sparse)
    second = kind([resumed], lr=0.1)
    checkpoint.restore_optimizer(second, checkpoint.optimizer_tensors(first))
    assert torch.equal(weights_after([3, 4], second, resumed, sparse), expected)
    fresh = torch.nn.Parameter(half.detach().clone())
    assert not torch.equal(weights_after([3, 4], kind([fresh], lr=0.1), fresh, sparse), expected)
