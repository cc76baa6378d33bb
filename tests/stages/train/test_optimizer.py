"""The workers' AdamW moves parameters as torch's does, and does without torch's compiler."""

import subprocess
import sys

import pytest
import torch

from recsys_spark.stages.train import checkpoint
from recsys_spark.stages.train.optimizer import AdamW


def parameters():
    torch.manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((5, 3), (3,), ())]


def moved(optimizer, given, rates):
    """`given` after a step at each rate; the second has a gradient at every other step only."""
    torch.manual_seed(4)
    for step, rate in enumerate(rates):
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = rate
        for i, parameter in enumerate(given):
            gradient = torch.randn(parameter.shape)
            if i != 1 or step % 2:
                parameter.grad = gradient
        optimizer.step()
    return [p.detach().clone() for p in given]


RATES = (0.1, 0.02, 0.3, 0.0, 0.05)


def test_it_moves_parameters_as_torchs_own_does():
    ours, theirs = parameters(), parameters()
    expected = moved(torch.optim.AdamW(theirs, weight_decay=0.2, fused=True), theirs, RATES)
    found = moved(AdamW(ours, weight_decay=0.2), ours, RATES)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    other = parameters()
    decayed_less = moved(AdamW(other, weight_decay=0.1), other, RATES)
    assert not torch.equal(decayed_less[0], expected[0])


@pytest.mark.parametrize(("first", "second"), [(AdamW, torch.optim.AdamW), (torch.optim.AdamW, AdamW)])
def test_a_checkpoint_of_either_is_one_of_the_other(first, second):
    given, other = parameters(), parameters()
    optimizer = first(given, weight_decay=0.2)
    moved(optimizer, given, RATES)
    resumed = second(other, weight_decay=0.2)
    for parameter, reached in zip(other, given, strict=True):
        parameter.data = reached.detach().clone()
    state = checkpoint.optimizer_tensors(optimizer)
    checkpoint.restore_optimizer(resumed, {name: tensor.clone() for name, tensor in state.items()})
    for found, expected in zip(moved(resumed, other, RATES), moved(optimizer, given, RATES), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_it_does_without_torchs_compiler():
    code = (
        "import sys, torch; from recsys_spark.stages.train.loop import AdamW; p = torch.nn.Parameter(torch.ones(2)); p.grad = p.detach(); "
        "optimizer = AdamW([p], lr=0.1); optimizer.step(); optimizer.zero_grad(); optimizer.load_state_dict(optimizer.state_dict()); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
