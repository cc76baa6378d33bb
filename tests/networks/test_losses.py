"""The losses against loops over their definitions, and the sampled one against the full one in the limit."""

import math

import pytest
import torch
from torch.nn import functional as F

from recsys_spark.networks.losses import (
    ABREAST,
    ROWS_OF_A_TILE,
    full_softmax,
    log_expected_counts,
    sampled_softmax,
)
from recsys_spark.stages.train.negatives import Candidates

TEMPERATURE = 0.5


def vectors(n, seed):
    return F.normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)), dim=-1)


def biases_of(n):
    """One for each item, none like another."""
    return torch.linspace(-0.4, 0.7, n).flip(0) ** 3


def test_full_softmax_is_the_weighed_cross_entropy_over_real_items():
    users, items, biases = vectors(4, 0), vectors(6, 1), biases_of(6)
    rows, targets = torch.tensor([0, 0, 2, 3, 3]), torch.tensor([1, 5, 2, 1, 4])  # nothing is asked of row 1
    weights = torch.tensor([0.5, 0.25, 1.0, 2.0, 0.1])
    loss = 0.0
    for row, target, weight in zip(rows.tolist(), targets.tolist(), weights.tolist()):
        powers = [math.exp(float(users[row] @ items[i] + biases[i]) / TEMPERATURE) for i in range(1, 6)]
        loss -= weight * math.log(powers[target - 1] / sum(powers))
    found = full_softmax(users, items, biases, rows, targets, weights, TEMPERATURE)
    assert float(found) == pytest.approx(loss, rel=1e-5)


def test_sampled_softmax_equals_the_naive_loop():
    users, items, biases = vectors(3, 0), vectors(8, 1), biases_of(8)
    rows, targets = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 5, 1, 7])
    weights = torch.tensor([0.5, 0.25, 1.0, 2.0])
    candidates, offsets = torch.tensor([1, 3, 5]), torch.tensor([0.3, -1.0, 0.2])
    loss = 0.0
    for row, target, weight in zip(rows.tolist(), targets.tolist(), weights.tolist()):
        own = targets[rows == row].tolist()
        power = {i: math.exp(float(users[row] @ items[i] + biases[i]) / TEMPERATURE) for i in range(1, 8)}
        shared = [
            power[i] * math.exp(offset) for i, offset in zip(candidates.tolist(), offsets.tolist()) if i not in own
        ]
        loss -= weight * math.log(power[target] / (sum(power[i] for i in own) + sum(shared)))
    found = sampled_softmax(users, items, biases, rows, targets, weights, TEMPERATURE, candidates, offsets)
    assert float(found) == pytest.approx(loss, rel=1e-5)


def test_a_row_whose_targets_are_all_the_candidates_has_them_alone():
    users, items, biases = vectors(1, 0).requires_grad_(), vectors(4, 1), biases_of(4)
    rows, targets, weights = torch.tensor([0, 0]), torch.tensor([1, 3]), torch.tensor([1.0, 1.0])
    asked = users, items, biases, rows, targets, weights
    found = sampled_softmax(*asked, TEMPERATURE, targets, torch.ones(2))
    scores = (users @ items[targets].T + biases[targets]) / TEMPERATURE
    expected = 2 * scores.logsumexp(1) - scores.sum()
    torch.testing.assert_close(found, expected[0])
    assert torch.autograd.grad(found, users)[0].isfinite().all()


def test_sampled_gradients_of_many_targets_have_the_same_bits_each_time():
    users, items, biases = vectors(64, 0), vectors(50, 1), biases_of(50)
    rows = torch.arange(64).repeat_interleave(1000)
    targets, weights = 1 + torch.arange(64_000) * 31 % 49, torch.full((64_000,), 1 / 64_000)
    candidates, threads = torch.arange(1, 20), torch.get_num_threads()
    found = []
    torch.set_num_threads(2)
    try:
        for _ in range(6):
            given = [table.clone().requires_grad_() for table in (users, items, biases)]
            loss = sampled_softmax(*given, rows, targets, weights, TEMPERATURE, candidates, torch.zeros(19))
            loss.backward()
            found.append([table.grad for table in given])
    finally:
        torch.set_num_threads(threads)
    for one in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(one, found[0]))


def test_expected_counts_are_batch_shares_plus_uniform_draws():
    counts = torch.tensor([0, 6, 3, 0, 1])
    found = log_expected_counts(counts, batch=20, negatives=8).exp()
    expected = [0, 20 * 6 / 10 + 8 / 4, 20 * 3 / 10 + 8 / 4, 8 / 4, 20 * 1 / 10 + 8 / 4]
    assert found.tolist() == pytest.approx(expected)


def test_sampled_softmax_is_the_full_one_in_the_limit():
    """Over many draws the sampled loss and its gradient come to those of the whole catalogue, popular items and all."""
    generator = torch.Generator().manual_seed(3)
    items, biases, batch, negatives, draws = vectors(10, 1), biases_of(10), 1000, 1000, 60
    counts = torch.tensor([0, 400, 200, 100, 100, 50, 50, 50, 25, 25])
    candidates = Candidates(counts, batch, negatives)
    user = vectors(1, 2).requires_grad_()
    everyone = user.expand(batch, -1)
    rows, weights = torch.arange(batch), torch.full((batch,), 1 / batch)
    sampled, full = [], []
    for _ in range(draws):
        targets = torch.multinomial(counts.double(), batch, replacement=True, generator=generator)
        drawn = candidates.draw(targets, generator)
        asked = everyone, items, biases, rows, targets, weights, TEMPERATURE
        for losses, loss in [(sampled, sampled_softmax(*asked, *drawn)), (full, full_softmax(*asked))]:
            losses.append(torch.cat([loss.reshape(1), torch.autograd.grad(loss, user)[0].flatten()]).detach())
    # the sample of a batch is one for all its rows, so what is left is its noise over the draws
    torch.testing.assert_close(torch.stack(sampled).mean(0), torch.stack(full).mean(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("halves", [None, torch.bfloat16, torch.float16])  # the last goes a GPU's way
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("n_items", [1 + ABREAST, 40])
def test_full_softmax_has_the_gradient_of_the_cross_entropy_over_any_number_of_tiles(halves, several, n_items):
    n = 2 * ROWS_OF_A_TILE + 3
    tables = vectors(n, 0), vectors(n_items, 1), biases_of(n_items)
    rows = torch.arange(n)
    if several:
        # none of some rows, of others up to four
        rows = rows.repeat_interleave(torch.arange(n) * 7 % 5)
    targets, weights = 1 + torch.arange(len(rows)) % (n_items - 1), 1 / (1 + torch.arange(len(rows)) % 3) / n
    given, wanted = ([table.clone().requires_grad_() for table in tables] for _ in range(2))
    with torch.autocast("cpu", halves or torch.bfloat16, enabled=halves is not None):
        loss = full_softmax(*given, rows, targets, weights, TEMPERATURE)
    (3 * loss).backward()
    logits = (wanted[0][rows] @ wanted[1][1:].T + wanted[2][1:]) / TEMPERATURE
    naive = (weights * F.cross_entropy(logits, targets - 1, reduction="none")).sum()
    (3 * naive).backward()
    tolerance = 2e-2 if halves else 1e-5
    torch.testing.assert_close(loss, naive, rtol=tolerance, atol=0)
    for found, expected in zip(given, wanted):
        assert found.grad.dtype == torch.float32
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=tolerance * float(expected.grad.abs().max()))
