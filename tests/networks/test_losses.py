"""The losses against loops over their definitions, and the sampled one against the full one in the limit."""

import math

import pytest
import torch
from torch.nn import functional as F

from recsys_spark.networks.losses import ROWS_OF_A_TILE, full_softmax, log_expected_counts, sampled_softmax

TEMPERATURE = 0.5


def vectors(n, seed):
    return F.normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_full_softmax_is_the_mean_cross_entropy_over_real_items():
    users, items, targets = vectors(3, 0), vectors(6, 1), torch.tensor([1, 5, 2])
    losses = []
    for user, target in zip(users, targets.tolist()):
        powers = [math.exp(float(user @ items[i]) / TEMPERATURE) for i in range(1, 6)]
        losses.append(-math.log(powers[target - 1] / sum(powers)))
    assert float(full_softmax(users, items, targets, TEMPERATURE)) == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_sampled_softmax_equals_the_naive_loop():
    users, items = vectors(3, 0), vectors(8, 1)
    ids = torch.tensor([1, 5, 1, 7, 5, 3])  # targets 1, 5, 1 and negatives 7, 5, 3
    log_expected = torch.tensor([0.0, 0.3, -1.0, 0.2, 0.5, 0.9, -0.4, -2.0])[ids]
    losses = []
    for row, user in enumerate(users):
        own = int(ids[row])
        powers = {
            at: math.exp(float(user @ items[i]) / TEMPERATURE - (0 if at == row else float(log_expected[at])))
            for at, i in enumerate(ids.tolist())
            if at == row or i != own
        }
        losses.append(-math.log(powers[row] / sum(powers.values())))
    found = sampled_softmax(users, items[ids], ids, log_expected, TEMPERATURE)
    assert float(found) == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_expected_counts_are_batch_shares_plus_uniform_draws():
    counts = torch.tensor([0, 6, 3, 0, 1])
    found = log_expected_counts(counts, batch=20, negatives=8).exp()
    expected = [0, 20 * 6 / 10 + 8 / 4, 20 * 3 / 10 + 8 / 4, 8 / 4, 20 * 1 / 10 + 8 / 4]
    assert found.tolist() == pytest.approx(expected)


def test_sampled_softmax_is_the_full_one_in_the_limit():
    """Over many draws the sampled loss and its gradient come to those of the whole catalogue, popular items and all."""
    generator = torch.Generator().manual_seed(3)
    items, batch, negatives, draws = vectors(10, 1), 1000, 1000, 60
    counts = torch.tensor([0, 400, 200, 100, 100, 50, 50, 50, 25, 25])
    log_expected = log_expected_counts(counts, batch, negatives)
    user = vectors(1, 2).requires_grad_()
    everyone = user.expand(batch, -1)
    sampled, full = [], []
    for _ in range(draws):
        targets = torch.multinomial(counts.double(), batch, replacement=True, generator=generator)
        ids = torch.cat([targets, torch.randint(1, 10, (negatives,), generator=generator)])
        for losses, loss in [
            (sampled, sampled_softmax(everyone, items[ids], ids, log_expected[ids], TEMPERATURE)),
            (full, full_softmax(everyone, items, targets, TEMPERATURE)),
        ]:
            losses.append(torch.cat([loss.reshape(1), torch.autograd.grad(loss, user)[0].flatten()]).detach())
    # the sample of a batch is one for all its rows, so what is left is its noise over the draws
    torch.testing.assert_close(torch.stack(sampled).mean(0), torch.stack(full).mean(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("halves", [False, True])
def test_full_softmax_has_the_gradient_of_the_cross_entropy_over_any_number_of_tiles(halves):
    n = 2 * ROWS_OF_A_TILE + 3
    users, items, targets = vectors(n, 0), vectors(40, 1), 1 + torch.arange(n) % 39
    given = [users.clone().requires_grad_(), items.clone().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16, enabled=halves):
        loss = full_softmax(*given, targets, TEMPERATURE)
    (3 * loss).backward()
    wanted = [users.clone().requires_grad_(), items.clone().requires_grad_()]
    naive = F.cross_entropy(wanted[0] @ wanted[1][1:].T / TEMPERATURE, targets - 1)
    (3 * naive).backward()
    tolerance = 2e-2 if halves else 1e-5
    torch.testing.assert_close(loss, naive, rtol=tolerance, atol=0)
    for found, expected in zip(given, wanted):
        assert found.grad.dtype == torch.float32
        torch.testing.assert_close(
            found.grad, expected.grad, rtol=0, atol=tolerance * float(expected.grad.abs().max())
        )
