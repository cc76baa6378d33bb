"""The rules of all user encoders: padding is never read, only sequence encoders read order, targets are real items."""

import dataclasses

import pytest
import torch

from recsys_spark.networks.architecture import Architecture

LENGTH, DIMENSION, ITEMS = 12, 8, 40
SEQUENCES = ["gru", "lstm", "conv", "attention"]
ENCODERS = ["mlp", "vae", *SEQUENCES]
LISTS = [[3, 4, 5, 6], [7], list(range(10, 10 + LENGTH)), [8, 9]]


def make_encoder(name, dropout=0.0):
    torch.manual_seed(0)
    architecture = Architecture(
        ITEMS, 0, LENGTH, DIMENSION, hidden=16, heads=2, encoder=name, examples="users", layers=2, attention_heads=2
    )  # fmt: skip
    encoder = architecture.make_encoder(dropout).eval()
    width = DIMENSION + architecture.item_weights
    return encoder, torch.randn(ITEMS, width, generator=torch.Generator().manual_seed(1))


def windows(lists, length):
    items = torch.zeros(len(lists), length, dtype=torch.int32)
    for row, entries in enumerate(lists):
        if entries:
            items[row, -len(entries) :] = torch.tensor(entries, dtype=torch.int32)
    return items, (items > 0).int()


def newest(*items):
    return torch.tensor(items, dtype=torch.int32)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("length", [3, 5, LENGTH])
def test_padding_never_changes_the_vector(name, length):
    encoder, table = make_encoder(name)
    lists = [[4], [5, 6], [7, 8, 9]]
    short = encoder(table, *windows(lists, 3))
    torch.testing.assert_close(encoder(table, *windows(lists, length)), short)
    table[0] = 1e3  # the row of the padding item is never read
    torch.testing.assert_close(encoder(table, *windows(lists, length)), short)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_user_does_not_depend_on_the_others_of_the_batch(name):
    encoder, table = make_encoder(name)
    lists = [[4], [5, 6, 9, 11, 3], [], list(range(1, LENGTH + 1))]
    batch = encoder(table, *windows(lists, LENGTH))
    for row, items in enumerate(lists):
        torch.testing.assert_close(encoder(table, *windows([items], LENGTH))[0], batch[row])


@pytest.mark.parametrize("name", ENCODERS)
def test_users_without_history_have_the_same_vector(name):
    encoder, table = make_encoder(name)
    first = encoder(table, *windows([[], []], LENGTH))
    table[0] = 1e3
    torch.testing.assert_close(encoder(table, *windows([[]], LENGTH))[0], first[1])


@pytest.mark.parametrize("name", ["vae", *SEQUENCES])
def test_order_matters_to_sequence_encoders_only(name):
    encoder, table = make_encoder(name)
    one, other = encoder(table, *windows([[4, 5, 6], [5, 4, 6]], LENGTH))
    assert ((one - other).abs().max() > 1e-3) == (name in SEQUENCES)


def test_places_are_counted_from_the_newest_item():
    encoder, table = make_encoder("attention")
    (encoder(table, *windows([[4, 5, 6]], LENGTH)) * torch.arange(DIMENSION)).sum().backward()
    touched = encoder.place.weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert touched.tolist() == [LENGTH - 3, LENGTH - 2, LENGTH - 1]


@pytest.mark.parametrize("name", SEQUENCES)
def test_in_training_every_place_predicts_the_next_item(name):
    """The state of each place is the vector of a user with the history up to there."""
    encoder, table = make_encoder(name)
    if name == "attention":
        torch.nn.init.zeros_(encoder.place.weight)  # its places are counted from the newest item
    followed_by = [30, 31, 32, 33]
    batch = encoder.training_batch(*windows(LISTS, LENGTH), newest(*followed_by))
    users, divergence = encoder.encode_batch(table, batch)
    assert divergence == 0
    sequences = [(*items, last) for items, last in zip(LISTS, followed_by)]
    prefixes = {sequence[at]: list(sequence[:at]) for sequence in sequences for at in range(1, len(sequence))}
    targets = batch.targets.tolist()
    assert sorted(targets) == sorted(prefixes)
    assert batch.rows.tolist() == list(range(len(targets)))
    assert set(batch.weights.tolist()) == {1.0}
    expected = encoder(table, *windows([prefixes[target] for target in targets], LENGTH))
    torch.testing.assert_close(users, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_states_do_not_depend_on_the_chunk(name, chunk):
    encoder, table = make_encoder(name)
    batch = encoder.training_batch(*windows(LISTS, LENGTH), newest(30, 31, 32, 33))
    expected, _ = encoder.encode_batch(table, batch)
    encoder.cpu_chunk = chunk
    torch.testing.assert_close(encoder.encode_batch(table, batch)[0], expected)


def test_a_split_divides_the_items_of_every_user():
    encoder, _ = make_encoder("mlp")
    lists = [[3], [4, 5], list(range(10, 10 + LENGTH))] * 200
    last = newest(*[20, 21, 22] * 200)
    torch.manual_seed(1)
    batch = encoder.training_batch(*windows(lists, LENGTH), last)
    share = []
    for user, items in enumerate(lists):
        inputs = [item for item in batch.items[user].tolist() if item]
        mine = batch.rows == user
        targets = batch.targets[mine].tolist()
        assert sorted(inputs + targets) == sorted([*items, int(last[user])])
        assert min(len(inputs), len(targets)) >= 1
        assert set(batch.weights[mine].tolist()) == {1.0}
        share.append(len(inputs) / (len(items) + 1))
    assert batch.rows.tolist() == sorted(batch.rows.tolist())
    assert sum(share[2::3]) / 200 == pytest.approx(0.5 * LENGTH / (LENGTH + 1), abs=0.03)
    again = encoder.training_batch(*windows(lists, LENGTH), last)
    assert (again.items != batch.items).any()  # another split each time
    assert ((batch.items > 0) <= (batch.recency > 0)).all()


def test_an_item_of_great_weight_outweighs_the_others():
    encoder, table = make_encoder("mlp")
    table[4, -1] = 50.0
    users = encoder(table, *windows([[4, 5, 6], [4]], LENGTH))
    reordered = encoder(table, *windows([[5, 6, 4]], LENGTH))[0]
    torch.testing.assert_close(users[0], users[1])
    torch.testing.assert_close(users[0], reordered)


def test_the_vae_predicts_all_items_and_draws_only_in_training():
    encoder, table = make_encoder("vae")
    batch = encoder.training_batch(*windows([[3], [4, 5]], LENGTH), newest(6, 7))
    assert batch.rows.tolist() == [0, 0, 1, 1, 1]
    assert batch.targets.tolist() == [3, 6, 4, 5, 7]
    assert batch.items[1, -3:].tolist() == [4, 5, 7]
    torch.manual_seed(2)
    n = 20_000
    repeated = dataclasses.replace(batch, items=batch.items[1:].expand(n, -1), recency=batch.recency[1:].expand(n, -1))
    users, divergence = encoder.encode_batch(table, repeated)
    mean = encoder(table, batch.items, batch.recency)[1]
    torch.testing.assert_close(users.mean(0), mean, atol=0.05, rtol=0)
    prior = torch.distributions.Normal(torch.zeros(DIMENSION), torch.ones(DIMENSION))
    posterior = torch.distributions.Normal(users.mean(0), users.std(0))
    expected = torch.distributions.kl_divergence(posterior, prior).sum()
    assert divergence.item() / n == pytest.approx(expected.item(), abs=0.1)


def test_the_vae_reads_the_sum_over_the_root_of_the_number():
    encoder, table = make_encoder("vae")
    inputs = []
    encoder.inner.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    encoder(table, *windows([[4, 5, 6, 7]], LENGTH))
    torch.testing.assert_close(inputs[0][0], table[4:8].sum(0) / 2)


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout_acts_in_training_only(name):
    encoder, table = make_encoder(name, dropout=0.5)
    inputs = windows([[4, 5, 6]], LENGTH)
    assert torch.equal(encoder(table, *inputs), encoder(table, *inputs))
    encoder.train()
    assert not torch.equal(encoder(table, *inputs), encoder(table, *inputs))


def test_an_unknown_encoder_is_an_error():
    with pytest.raises(ValueError, match="unknown user encoder 'oracle'. Use one of mlp, vae"):
        make_encoder("oracle")
