"""The losses equal loops over their definitions, and the sampled one approaches the full one."""

import math

import pytest
import torch
from torch.nn import functional as F

from recsys_spark.networks.losses import (
    ROWS_OF_A_TILE,
    CandidateSampler,
    full_softmax,
    log_expected_counts,
    sampled_softmax,
)

TEMPERATURE = 0.5


def vectors(n, seed):
    return F.normalize(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)), dim=-1)


def biases_of(n):
    """One for each item, all different."""
    return torch.linspace(-0.4, 0.7, n).flip(0) ** 3


def test_full_softmax_is_the_weighted_cross_entropy_over_all_items_but_the_padding():
    users, items, biases = vectors(4, 0), vectors(6, 1), biases_of(6)
    rows, targets = torch.tensor([0, 0, 2, 3, 3]), torch.tensor([1, 5, 2, 1, 4])  # row 1 has no target
    weights = torch.tensor([0.5, 0.25, 1.0, 2.0, 0.1])
    loss = 0.0
    for row, target, weight in zip(rows.tolist(), targets.tolist(), weights.tolist()):
        powers = [math.exp(float(users[row] @ items[i] + biases[i]) / TEMPERATURE) for i in range(1, 6)]
        loss -= weight * math.log(powers[target - 1] / sum(powers))
    found = full_softmax(users, items, biases, rows, targets, weights, TEMPERATURE)
    assert float(found) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("n_items", [33, 40])
def test_full_softmax_equals_the_plain_cross_entropy_and_its_gradient(half, several, n_items):
    """`F.cross_entropy` with autograd is the reference, over more than one tile."""
    n = 2 * ROWS_OF_A_TILE + 3
    tables = vectors(n, 0), vectors(n_items, 1), biases_of(n_items)
    rows = torch.arange(n)
    if several:
        # rows have none to four targets
        rows = rows.repeat_interleave(torch.arange(n) * 7 % 5)
    targets, weights = 1 + torch.arange(len(rows)) % (n_items - 1), 1 / (1 + torch.arange(len(rows)) % 3) / n
    ours, reference = ([table.clone().requires_grad_() for table in tables] for _ in range(2))
    with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
        loss = full_softmax(*ours, rows, targets, weights, TEMPERATURE)
    (3 * loss).backward()
    logits = (reference[0][rows] @ reference[1][1:].T + reference[2][1:]) / TEMPERATURE
    plain = (weights * F.cross_entropy(logits, targets - 1, reduction="none")).sum()
    (3 * plain).backward()
    tolerance = 2e-2 if half else 1e-5
    torch.testing.assert_close(loss, plain, rtol=tolerance, atol=0)
    for found, expected in zip(ours, reference):
        assert found.grad.dtype == torch.float32
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=tolerance * float(expected.grad.abs().max()))


def test_the_full_loss_of_a_hopeless_target_is_finite():
    """At a low temperature the target's probability is below the least float."""
    users, items = torch.tensor([[1.0, 0.0]]).requires_grad_(), torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    inputs = torch.zeros(3), torch.tensor([0]), torch.tensor([2]), torch.tensor([1.0])
    loss = full_softmax(users, items, *inputs, 0.01)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, users)[0].tolist() == [[200.0, 0.0]]  # (1 - -1) / 0.01


def test_sampled_softmax_equals_a_naive_loop():
    users, items, biases = vectors(3, 0), vectors(8, 1), biases_of(8)
    rows, targets = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 5, 1, 7])
    weights = torch.tensor([0.5, 0.25, 1.0, 2.0])
    candidates, offsets = torch.tensor([1, 3, 5]), torch.tensor([0.3, -1.0, 0.2])
    loss = 0.0
    for row, target, weight in zip(rows.tolist(), targets.tolist(), weights.tolist()):
        of_row = targets[rows == row].tolist()
        power = {i: math.exp(float(users[row] @ items[i] + biases[i]) / TEMPERATURE) for i in range(1, 8)}
        others = [(i, offset) for i, offset in zip(candidates.tolist(), offsets.tolist()) if i not in of_row]
        total = sum(power[i] for i in of_row) + sum(power[i] * math.exp(offset) for i, offset in others)
        loss -= weight * math.log(power[target] / total)
    found = sampled_softmax(users, items, biases, rows, targets, weights, TEMPERATURE, candidates, offsets)
    assert float(found) == pytest.approx(loss, rel=1e-5)


def test_a_row_whose_targets_are_all_the_candidates():
    users, items, biases = vectors(1, 0).requires_grad_(), vectors(4, 1), biases_of(4)
    rows, targets, weights = torch.tensor([0, 0]), torch.tensor([1, 3]), torch.tensor([1.0, 1.0])
    inputs = users, items, biases, rows, targets, weights
    found = sampled_softmax(*inputs, TEMPERATURE, targets, torch.ones(2))
    scores = (users @ items[targets].T + biases[targets]) / TEMPERATURE
    expected = 2 * scores.logsumexp(1) - scores.sum()
    torch.testing.assert_close(found, expected[0])
    assert torch.autograd.grad(found, users)[0].isfinite().all()


def test_sampled_gradients_of_many_targets_have_the_same_bits_each_time():
    users, items, biases = vectors(64, 0), vectors(50, 1), biases_of(50)
    rows = torch.arange(64).repeat_interleave(1000)
    targets, weights = 1 + torch.arange(64_000) * 31 % 49, torch.full((64_000,), 1 / 64_000)
    candidates, threads = torch.arange(1, 20), torch.get_num_threads()
    gradients = []
    torch.set_num_threads(2)
    try:
        for _ in range(6):
            leaves = [table.clone().requires_grad_() for table in (users, items, biases)]
            loss = sampled_softmax(*leaves, rows, targets, weights, TEMPERATURE, candidates, torch.zeros(19))
            loss.backward()
            gradients.append([leaf.grad for leaf in leaves])
    finally:
        torch.set_num_threads(threads)
    for run in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, gradients[0]))


def test_expected_counts_are_batch_shares_plus_uniform_draws():
    counts = torch.tensor([0, 6, 3, 0, 1])
    found = log_expected_counts(counts, batch=20, negatives=8).exp()
    expected = [0, 20 * 6 / 10 + 8 / 4, 20 * 3 / 10 + 8 / 4, 8 / 4, 20 * 1 / 10 + 8 / 4]
    assert found.tolist() == pytest.approx(expected)


def test_candidates_are_items_and_the_same_for_the_same_seed():
    sampler = CandidateSampler(torch.tensor([0, 5, 3, 2]), batch=2, negatives=500)
    targets = torch.tensor([3, 1])
    candidates, offsets = sampler.draw(targets, torch.Generator().manual_seed(1))
    assert candidates.tolist() == [1, 2, 3]
    expected = torch.tensor([2 * 5 / 10 + 500 / 3, 2 * 3 / 10 + 500 / 3, 2 * 2 / 10 + 500 / 3])
    times = offsets.exp() * expected
    torch.testing.assert_close(times, times.round())
    assert times.sum() == pytest.approx(2 + 500)
    again = sampler.draw(targets, torch.Generator().manual_seed(1))
    assert torch.equal(offsets, again[1])


def test_of_many_targets_a_batch_size_of_them_are_candidates():
    sampler = CandidateSampler(torch.tensor([0, *[3] * 50]), batch=5, negatives=1)
    drawn = [sampler.draw(torch.arange(1, 41), torch.Generator().manual_seed(seed))[0] for seed in range(20)]
    assert {len(candidates) for candidates in drawn} <= {5, 6}
    assert len(set(torch.cat(drawn).tolist())) > 30  # different ones each time


def test_sampled_softmax_is_the_full_one_on_average():
    """Over many draws the mean sampled loss and gradient equal those of the whole catalogue."""
    generator = torch.Generator().manual_seed(3)
    items, biases, batch, negatives, draws = vectors(10, 1), biases_of(10), 1000, 1000, 60
    counts = torch.tensor([0, 400, 200, 100, 100, 50, 50, 50, 25, 25])
    sampler = CandidateSampler(counts, batch, negatives)
    user = vectors(1, 2).requires_grad_()
    users = user.expand(batch, -1)
    rows, weights = torch.arange(batch), torch.full((batch,), 1 / batch)
    sampled, full = [], []
    for _ in range(draws):
        targets = torch.multinomial(counts.double(), batch, replacement=True, generator=generator)
        drawn = sampler.draw(targets, generator)
        inputs = users, items, biases, rows, targets, weights, TEMPERATURE
        for losses, loss in [(sampled, sampled_softmax(*inputs, *drawn)), (full, full_softmax(*inputs))]:
            losses.append(torch.cat([loss.reshape(1), torch.autograd.grad(loss, user)[0].flatten()]).detach())
    # all rows share the candidates, so the rest is the noise of the draws
    torch.testing.assert_close(torch.stack(sampled).mean(0), torch.stack(full).mean(0), atol=0.01, rtol=0)
