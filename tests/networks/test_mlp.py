"""The encoder mlp sees items, their order and their recency, and never the padding."""

import pytest
import torch

from recsys_spark.networks.mlp import PooledEncoder

LENGTH, DIMENSION, ITEMS = 12, 8, 20


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = PooledEncoder(length=LENGTH, dimension=DIMENSION, hidden=16, heads=2, dropout=0.5).eval()
    with torch.no_grad():
        encoder.place.normal_()
        encoder.recency.normal_()
    return encoder


@pytest.fixture
def table():
    return torch.randn(ITEMS, DIMENSION, generator=torch.Generator().manual_seed(1))


def windows(lists, length, bucket=3):
    items = torch.zeros(len(lists), length, dtype=torch.int32)
    for row, entries in enumerate(lists):
        if entries:
            items[row, -len(entries) :] = torch.tensor(entries, dtype=torch.int32)
    return items, (items > 0).int() * bucket


def naive(encoder, table, items, recency):
    """One user at a time, one head at a time, over the real items only."""
    users = []
    for row, buckets in zip(items.tolist(), recency.tolist()):
        real = [(len(row) - 1 - at, item, bucket) for at, (item, bucket) in enumerate(zip(row, buckets)) if item]
        pooled = []
        for head in range(encoder.heads):
            places = [encoder.place[head, LENGTH - 1 - back] + encoder.recency[head, b] for back, _, b in real]
            weights = torch.stack(places).softmax(0) if real else []
            pooled.append(sum((w * table[i] for w, (_, i, _) in zip(weights, real)), torch.zeros(DIMENSION)))
        joined = torch.cat(pooled)
        inner = torch.nn.functional.gelu(encoder.inner(joined))
        users.append(encoder.norm(encoder.skip(joined) + encoder.outer(inner)))
    return torch.stack(users)


def test_equals_the_naive_loop(encoder, table):
    items, recency = windows([[3], [1, 2, 3], [], list(range(1, 13))], LENGTH)
    recency[1] = torch.tensor([0] * 9 + [9, 2, 1])
    torch.testing.assert_close(encoder(table, items, recency), naive(encoder, table, items, recency))


@pytest.mark.parametrize("length", [3, 5, LENGTH])
def test_padding_never_changes_the_vector(encoder, table, length):
    lists = [[4], [5, 6], [7, 8, 9]]
    short = encoder(table, *windows(lists, 3))
    torch.testing.assert_close(encoder(table, *windows(lists, length)), short)
    other = table.clone()
    other[0] = 1e3  # what stands in the padding item's row is never looked at
    torch.testing.assert_close(encoder(other, *windows(lists, length)), short)


def test_order_and_recency_matter(encoder, table):
    users = encoder(table, *windows([[4, 5], [5, 4]], LENGTH))
    assert (users[0] - users[1]).abs().max() > 0.01
    items, recency = windows([[4, 5], [4, 5]], LENGTH)
    recency[1, -2] = 20
    users = encoder(table, items, recency)
    assert (users[0] - users[1]).abs().max() > 0.01


def test_dropout_takes_whole_items_and_only_in_training(encoder, table):
    one, of_nobody = windows([[4]] * 400, LENGTH), encoder(table, *windows([[]], LENGTH))
    encoder.inner.register_forward_pre_hook(lambda _, pooled: seen.append(pooled[0]))
    seen: list[torch.Tensor] = []
    torch.manual_seed(2)
    encoder.train()
    encoder(table, *one)
    assert 0.4 < (seen[0] == 0).all(dim=1).float().mean() < 0.6  # the share of 0.5 that the encoder was made with
    encoder.eval()
    users = encoder(table, *one)
    torch.testing.assert_close(seen[1], table[4].repeat(400, 2))
    assert (users - of_nobody).abs().max() > 0.01


def test_gradients_are_those_of_the_naive_encoder(encoder, table):
    items, recency = windows([[3, 7, 1], [], [5], [7, 3, 9, 2]], 6)
    gradients = []
    for encode in (lambda t: encoder(t, items, recency), lambda t: naive(encoder, t, items, recency)):
        encoder.zero_grad()
        own = table.clone().requires_grad_()
        (encode(own) * torch.arange(DIMENSION)).sum().backward()
        gradients.append([own.grad, encoder.place.grad.clone(), encoder.recency.grad.clone()])
    for found, expected in zip(*gradients):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_around_it_leaves_the_pooling_alone(encoder, table):
    items, recency = windows([[3, 7, 1], [5]], 6)
    own = table.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        users = encoder(own, items, recency)
    users.float().pow(2).sum().backward()
    assert own.grad.dtype == torch.float32
    torch.testing.assert_close(users.float(), encoder(table, items, recency), rtol=0, atol=0.05)
