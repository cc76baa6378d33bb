"""Compiled powers against float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recsys_spark.networks.exponential import exponentials, powers_of_bfloat16, powers_of_float32

BIASES, BEYOND = torch.linspace(-2, 1, 203), 5


@pytest.mark.parametrize("n", [1, 15, 64, 1000])
def test_exponentials_and_their_sum(n):
    numbers = np.linspace(-80, 3, n).astype(np.float32)
    expected = np.exp(numbers.astype(np.float64) - 3)
    total = exponentials(numbers, np.float32(3))
    np.testing.assert_allclose(numbers, expected, rtol=2e-5)  # the error of x * log2(e), of up to 120, in float32
    assert total == pytest.approx(expected.sum(), rel=1e-6)


def test_what_is_out_of_reach_is_nothing_and_nan_stays():
    numbers = np.array([-1e4, -np.inf, -90.0, 0.0], np.float32)
    assert exponentials(numbers, np.float32(0)) == 1
    assert numbers[:3].max() < 1e-37
    assert np.isnan(exponentials(np.array([0.0, np.nan], np.float32), np.float32(0)))


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_powers_of_halves_are_torch_s(scale):
    logits = (torch.randn(7, 203, generator=torch.Generator().manual_seed(1)) * scale).bfloat16()
    bits, most, sums = F.pad(logits, (0, BEYOND), value=99.0), torch.empty(7), torch.empty(7)
    powers_of_bfloat16(bits.view(torch.int16).numpy(), BIASES.numpy(), most.numpy(), sums.numpy())
    bits, beyond = bits.split([203, BEYOND], dim=1)
    assert not beyond.any()
    wide = (logits.float() + BIASES).double()
    assert torch.equal(most.double(), wide.amax(1))
    expected = _powers(wide)
    torch.testing.assert_close(sums.double(), expected.sum(1), rtol=1e-5, atol=0)
    nearest = expected.float().bfloat16()
    assert (
        (bits.view(torch.int16) - nearest.view(torch.int16)).abs() <= 1
    ).all()  # a last place, where it lay between two
    assert (bits == nearest).float().mean() > 0.99


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_powers_of_float32_are_torch_s(scale):
    logits = torch.randn(7, 203, generator=torch.Generator().manual_seed(1)) * scale
    logits[3] -= 30 * scale  # a row without a positive logit
    powers, most, sums = F.pad(logits, (0, BEYOND), value=99.0), torch.empty(7), torch.empty(7)
    powers_of_float32(powers.numpy(), BIASES.numpy(), most.numpy(), sums.numpy())
    powers, beyond = powers.split([203, BEYOND], dim=1)
    assert not beyond.any()
    wide = (logits + BIASES).double()
    assert torch.equal(most.double(), wide.amax(1))
    expected = _powers(wide)
    torch.testing.assert_close(powers.double(), expected, rtol=2e-5, atol=0)
    torch.testing.assert_close(sums.double(), expected.sum(1), rtol=1e-5, atol=0)


def test_negative_rows_have_their_greatest_too():
    logits = torch.tensor([[-5.0, -3.0, -7.0]]).bfloat16()
    most, sums = np.empty(1, np.float32), np.empty(1, np.float32)
    powers_of_bfloat16(logits.view(torch.int16).numpy(), np.zeros(3, np.float32), most, sums)
    assert most[0] == -3
    assert logits[0, 1] == 1


def _powers(logits):
    """By their definition, no less than the least that comes out."""
    return (logits - logits.amax(1, keepdim=True)).exp().clamp(min=2**-126)
