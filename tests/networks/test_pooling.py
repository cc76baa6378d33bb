"""The compiled pooling against its formula in torch, values and gradients."""

import pytest
import torch

from recsys_spark.networks.pooling import pool, pool_by_formula

USERS, DIMENSION, ITEMS, HEADS, BUCKETS = 9, 5, 12, 3, 4


def given(length, seed=0, weighed=False):
    generator = torch.Generator().manual_seed(seed)
    floats = [
        torch.randn(*shape, generator=generator)
        for shape in [(ITEMS, DIMENSION + weighed), (HEADS, length), (HEADS, BUCKETS)]
    ]
    items = torch.randint(ITEMS, (USERS, length), generator=generator, dtype=torch.int32)
    recency = torch.randint(BUCKETS, (USERS, length), generator=generator, dtype=torch.int32)
    counts = torch.rand(USERS, length, generator=generator) < 0.6
    counts[0], counts[1] = False, True
    return [tensor.requires_grad_() for tensor in floats], items, recency, counts


def run(function, length, weighed=False):
    (table, place, buckets), items, recency, counts = given(length, weighed=weighed)
    pooled = function(table, items, recency, counts, place, buckets, weighed=weighed)
    (pooled * torch.arange(pooled.numel()).view_as(pooled)).sum().backward()
    return [pooled.detach(), table.grad, place.grad, buckets.grad]


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("length", [1, 7, 50, 130])
def test_equals_the_formula_in_values_and_gradients(length, weighed):
    for found, expected in zip(run(pool, length, weighed), run(pool_by_formula, length, weighed), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_user_of_whom_nothing_counts_is_zero_and_gives_no_gradient():
    (table, place, buckets), items, recency, counts = given(6)
    pooled = pool(table, items, recency, torch.zeros_like(counts), place, buckets)
    assert not pooled.any()
    pooled.sum().backward()
    assert not any(t.grad.any() for t in (table, place, buckets))


def test_a_weighed_item_counts_e_to_its_weight_as_much():
    table = torch.tensor([[0.0, 0.0], [6.0, 0.0], [3.0, 0.0]])
    table[2, 1] = torch.tensor(2.0).log()
    items, there = torch.tensor([[1, 2]], dtype=torch.int32), torch.ones(1, 2, dtype=torch.bool)
    flat = torch.zeros(1, 2)
    pooled = pool(table, items, items * 0, there, flat, flat, weighed=True)
    assert pooled.item() == pytest.approx(6 * 1 / 3 + 3 * 2 / 3)


def test_users_do_not_depend_on_those_beside_them():
    (table, place, buckets), items, recency, counts = given(50)
    whole = pool(table, items, recency, counts, place, buckets)
    for user in range(USERS):
        own = slice(user, user + 1)
        torch.testing.assert_close(
            pool(table, items[own], recency[own], counts[own], place, buckets),
            whole[own],
            rtol=1e-6,
            atol=1e-6,
        )


def test_only_differences_of_logits_matter_however_large():
    (table, place, buckets), items, recency, counts = given(10)
    base = pool(table, items, recency, counts, place, buckets)
    torch.testing.assert_close(
        pool(table, items, recency, counts, place + 500, buckets - 200), base, rtol=1e-3, atol=1e-4
    )
