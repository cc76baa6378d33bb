"""The encoder mlp reads items, their places and their recency, and never the padding."""

import pytest
import torch

from recsys_spark.networks.mlp import MlpEncoder

LENGTH, DIMENSION, ITEMS = 12, 8, 20


def make_encoder(split=False):
    torch.manual_seed(0)
    encoder = MlpEncoder(length=LENGTH, dimension=DIMENSION, hidden=16, heads=2, dropout=0.5, split=split).eval()
    if not split:
        with torch.no_grad():
            encoder.place.normal_()
            encoder.recency.normal_()
    return encoder


@pytest.fixture
def encoder():
    return make_encoder()


def make_table(split=False):
    return torch.randn(ITEMS, DIMENSION + split, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def table():
    return make_table()


def windows(lists, length, bucket=3):
    items = torch.zeros(len(lists), length, dtype=torch.int32)
    for row, entries in enumerate(lists):
        if entries:
            items[row, -len(entries) :] = torch.tensor(entries, dtype=torch.int32)
    return items, (items > 0).int() * bucket


def pool_naively(encoder, table, items, recency, head):
    """One user, one head, over the items without padding."""
    entries = [(len(items) - 1 - at, item, r) for at, (item, r) in enumerate(zip(items, recency)) if item]
    logits = [encoder.place[head, LENGTH - 1 - back] + encoder.recency[head, r] for back, _, r in entries]
    if encoder.split:
        logits = [logit + table[item, DIMENSION] for logit, (_, item, _) in zip(logits, entries)]
    weights = torch.stack(logits).softmax(0) if entries else []
    terms = [w * table[item, :DIMENSION] for w, (_, item, _) in zip(weights, entries)]
    return sum(terms, torch.zeros(DIMENSION))


def encode_naively(encoder, table, items, recency):
    users = []
    for row, buckets in zip(items.tolist(), recency.tolist()):
        pooled = torch.cat([pool_naively(encoder, table, row, buckets, head) for head in range(encoder.heads)])
        inner = torch.nn.functional.gelu(encoder.inner(pooled))
        users.append(encoder.norm(encoder.skip(pooled) + encoder.outer(inner)))
    return torch.stack(users)


@pytest.mark.parametrize("split", [False, True])
def test_equals_a_naive_loop(split):
    encoder, table = make_encoder(split), make_table(split)
    items, recency = windows([[3], [1, 2, 3], [], list(range(1, 13))], LENGTH)
    recency[1] = torch.tensor([0] * 9 + [9, 2, 1])
    found = encoder(table, items, recency)
    torch.testing.assert_close(found, encode_naively(encoder, table, items, recency))


@pytest.mark.parametrize("length", [3, 5, LENGTH])
def test_padding_never_changes_the_vector(encoder, table, length):
    lists = [[4], [5, 6], [7, 8, 9]]
    short = encoder(table, *windows(lists, 3))
    torch.testing.assert_close(encoder(table, *windows(lists, length)), short)
    other = table.clone()
    other[0] = 1e3  # the row of the padding item is never read
    torch.testing.assert_close(encoder(other, *windows(lists, length)), short)


def test_order_and_recency_matter(encoder, table):
    users = encoder(table, *windows([[4, 5], [5, 4]], LENGTH))
    assert (users[0] - users[1]).abs().max() > 0.01
    items, recency = windows([[4, 5], [4, 5]], LENGTH)
    recency[1, -2] = 20
    users = encoder(table, items, recency)
    assert (users[0] - users[1]).abs().max() > 0.01


def test_only_differences_of_logits_matter_however_large(encoder, table):
    inputs = windows([[4, 5, 6], [7]], LENGTH)
    before = encoder(table, *inputs)
    with torch.no_grad():
        encoder.place += 500
        encoder.recency -= 200
    torch.testing.assert_close(encoder(table, *inputs), before, rtol=1e-3, atol=1e-4)


def test_an_item_of_weight_w_counts_exp_w_times():
    encoder, table = make_encoder(split=True), make_table(split=True)
    table[:, DIMENSION] = 0.0
    table[2, DIMENSION] = torch.tensor(2.0).log()
    pooled = []
    encoder.inner.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    encoder(table, *windows([[1, 2]], LENGTH))
    torch.testing.assert_close(pooled[0][0], (table[1, :DIMENSION] + 2 * table[2, :DIMENSION]) / 3)


def test_dropout_removes_whole_items_and_only_in_training(encoder, table):
    pooled = []
    encoder.inner.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    one = windows([[4]] * 400, LENGTH)
    torch.manual_seed(2)
    encoder.train()
    encoder(table, *one)
    assert 0.4 < (pooled[0] == 0).all(dim=1).float().mean() < 0.6  # the encoder's dropout is 0.5
    encoder.eval()
    encoder(table, *one)
    torch.testing.assert_close(pooled[1], table[4].repeat(400, 2))


@pytest.mark.parametrize("split", [False, True])
def test_gradients_are_those_of_the_naive_loop(split):
    encoder, table = make_encoder(split), make_table(split)
    items, recency = windows([[3, 7, 1], [], [5], [7, 3, 9, 2]], 6)
    gradients = []
    for encode in (encoder, lambda *inputs: encode_naively(encoder, *inputs)):
        encoder.zero_grad()
        leaf = table.clone().requires_grad_()
        (encode(leaf, items, recency) * torch.arange(DIMENSION)).sum().backward()
        parameters = [] if split else [encoder.place, encoder.recency]
        gradients.append([leaf.grad, *(p.grad.clone() for p in parameters)])
    for found, expected in zip(*gradients):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_window_without_items_has_no_gradient(encoder, table):
    leaf = table.clone().requires_grad_()
    encoder(leaf, *windows([[], []], LENGTH)).sum().backward()
    assert not leaf.grad.any()
    assert not encoder.place.grad.any()


def test_pooling_stays_in_float32_under_autocast(encoder, table):
    items, recency = windows([[3, 7, 1], [5]], 6)
    leaf = table.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        users = encoder(leaf, items, recency)
    users.float().pow(2).sum().backward()
    assert leaf.grad.dtype == torch.float32
    torch.testing.assert_close(users.float(), encoder(table, items, recency), rtol=0, atol=0.05)
