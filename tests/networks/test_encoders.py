"""What every user encoder keeps to: padding is never seen, order is seen by those of order alone, and what examples ask is what is there."""

import dataclasses

import pytest
import torch

from recsys_spark.networks.architecture import Architecture

LENGTH, DIMENSION, ITEMS = 12, 8, 40
SETS, ORDERED = ["vae"], ["gru", "lstm", "conv", "attention"]
EVERY = ["mlp", *SETS, *ORDERED]


def make_encoder(name, dropout=0.0):
    torch.manual_seed(0)
    architecture = Architecture(
        ITEMS, 0, LENGTH, DIMENSION, hidden=16, heads=2, encoder=name, examples="users", layers=2, attention_heads=2
    )  # fmt: skip
    encoder = architecture.make_encoder(dropout).eval()
    width = DIMENSION + architecture.weighed
    return encoder, torch.randn(ITEMS, width, generator=torch.Generator().manual_seed(1))


def windows(lists, length):
    items = torch.zeros(len(lists), length, dtype=torch.int32)
    for row, entries in enumerate(lists):
        if entries:
            items[row, -len(entries) :] = torch.tensor(entries, dtype=torch.int32)
    return items, (items > 0).int()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("length", [3, 5, LENGTH])
def test_padding_never_changes_the_vector(name, length):
    encoder, table = make_encoder(name)
    lists = [[4], [5, 6], [7, 8, 9]]
    short = encoder(table, *windows(lists, 3))
    torch.testing.assert_close(encoder(table, *windows(lists, length)), short)
    table[0] = 1e3  # what stands in the padding item's row is never looked at
    torch.testing.assert_close(encoder(table, *windows(lists, length)), short)


@pytest.mark.parametrize("name", EVERY)
def test_a_user_does_not_depend_on_those_beside_them(name):
    encoder, table = make_encoder(name)
    lists = [[4], [5, 6, 9, 11, 3], [], list(range(1, LENGTH + 1))]
    together = encoder(table, *windows(lists, LENGTH))
    for row, own in enumerate(lists):
        torch.testing.assert_close(encoder(table, *windows([own], LENGTH))[0], together[row])


@pytest.mark.parametrize("name", EVERY)
def test_users_without_history_are_alike_whatever_stands_in_the_padding_row(name):
    encoder, table = make_encoder(name)
    first = encoder(table, *windows([[], []], LENGTH))
    table[0] = 1e3
    torch.testing.assert_close(encoder(table, *windows([[]], LENGTH))[0], first[1])


@pytest.mark.parametrize("name", [*SETS, *ORDERED])
def test_order_matters_to_those_of_order_alone(name):
    encoder, table = make_encoder(name)
    one, other = encoder(table, *windows([[4, 5, 6], [5, 4, 6]], LENGTH))
    assert ((one - other).abs().max() > 1e-3) == (name in ORDERED)


def test_places_are_counted_from_the_newest_item():
    encoder, table = make_encoder("attention")
    (encoder(table, *windows([[4, 5, 6]], LENGTH)) * torch.arange(DIMENSION)).sum().backward()
    touched = encoder.place.weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert touched.tolist() == [LENGTH - 3, LENGTH - 2, LENGTH - 1]


@pytest.mark.parametrize("name", ORDERED)
def test_in_training_every_place_tells_the_next_item(name):
    """The state of each place is the vector that a user with the history up to there has."""
    encoder, table = make_encoder(name)
    if name == "attention":
        torch.nn.init.zeros_(encoder.place.weight)  # its places are counted from the newest item
    lists, newest = [[3, 4, 5, 6], [7], list(range(10, 10 + LENGTH)), [8, 9]], [30, 31, 32, 33]
    questions = encoder.questions(*windows(lists, LENGTH), torch.tensor(newest, dtype=torch.int32))
    users, divergence = encoder.answers(table, questions)
    assert divergence == 0
    prefixes = {(*own, last)[at]: own[:at] for own, last in zip(lists, newest) for at in range(1, len(own) + 1)}
    targets = questions.targets.tolist()
    assert sorted(targets) == sorted(prefixes)
    assert questions.rows.tolist() == list(range(len(targets)))
    assert set(questions.weights.tolist()) == {1.0}
    expected = encoder(table, *windows([prefixes[target] for target in targets], LENGTH))
    torch.testing.assert_close(users, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("together", [None, 1, 3])
def test_users_read_in_any_company_give_the_same_states(name, together):
    encoder, table = make_encoder(name)
    lists = [[3, 4, 5, 6], [7], list(range(10, 10 + LENGTH)), [8, 9]]
    questions = encoder.questions(*windows(lists, LENGTH), torch.arange(30, 34, dtype=torch.int32))
    expected, _ = encoder.answers(table, questions)
    encoder.together = together
    torch.testing.assert_close(encoder.answers(table, questions)[0], expected)


def test_a_split_parts_the_items_of_every_user():
    encoder, _ = make_encoder("mlp")
    lists = [[3], [4, 5], list(range(10, 10 + LENGTH))] * 200
    newest = torch.tensor([20, 21, 22] * 200, dtype=torch.int32)
    torch.manual_seed(1)
    questions = encoder.questions(*windows(lists, LENGTH), newest)
    share = []
    for user, own in enumerate(lists):
        read = [item for item in questions.items[user].tolist() if item]
        asked = questions.rows == user
        targets = questions.targets[asked].tolist()
        assert sorted(read + targets) == sorted([*own, int(newest[user])])
        assert min(len(read), len(targets)) >= 1
        assert set(questions.weights[asked].tolist()) == {1.0}
        share.append(len(read) / (len(own) + 1))
    assert questions.rows.tolist() == sorted(questions.rows.tolist())
    assert sum(share[2::3]) / 200 == pytest.approx(0.5 * LENGTH / (LENGTH + 1), abs=0.03)
    again = encoder.questions(*windows(lists, LENGTH), newest)
    assert (again.items != questions.items).any()  # another split whenever a user is met
    assert ((questions.items > 0) <= (questions.recency > 0)).all()


def test_an_item_of_great_weight_is_all_that_is_read():
    encoder, table = make_encoder("mlp")
    table[4, -1] = 50.0
    users = encoder(table, *windows([[4, 5, 6], [4]], LENGTH))
    apart = encoder(table, *windows([[5, 6, 4]], LENGTH))[0]
    torch.testing.assert_close(users[0], users[1])
    torch.testing.assert_close(users[0], apart)


def test_the_vae_asks_for_all_items_and_draws_only_in_training():
    encoder, table = make_encoder("vae")
    given = (*windows([[3], [4, 5]], LENGTH), torch.tensor([6, 7], dtype=torch.int32))
    questions = encoder.questions(*given)
    assert questions.rows.tolist() == [0, 0, 1, 1, 1]
    assert questions.targets.tolist() == [3, 6, 4, 5, 7]
    assert questions.items[1, -3:].tolist() == [4, 5, 7]
    torch.manual_seed(2)
    many = dataclasses.replace(
        questions, items=questions.items[1:].expand(20_000, -1), recency=questions.recency[1:].expand(20_000, -1)
    )  # fmt: skip
    users, divergence = encoder.answers(table, many)
    mean = encoder(table, questions.items, questions.recency)[1]
    torch.testing.assert_close(users.mean(0), mean, atol=0.05, rtol=0)
    prior = torch.distributions.Normal(torch.zeros(DIMENSION), torch.ones(DIMENSION))
    own = torch.distributions.Normal(users.mean(0), users.std(0))
    expected = torch.distributions.kl_divergence(own, prior).sum()
    assert divergence.item() / 20_000 == pytest.approx(expected.item(), abs=0.1)


def test_the_vae_reads_the_sum_over_the_root_of_the_number():
    encoder, table = make_encoder("vae")
    seen = []
    encoder.inner.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    encoder(table, *windows([[4, 5, 6, 7]], LENGTH))
    torch.testing.assert_close(seen[0][0], table[4:8].sum(0) / 2)


@pytest.mark.parametrize("name", EVERY)
def test_dropout_is_of_training_alone(name):
    encoder, table = make_encoder(name, dropout=0.5)
    given = windows([[4, 5, 6]], LENGTH)
    assert torch.equal(encoder(table, *given), encoder(table, *given))
    encoder.train()
    assert not torch.equal(encoder(table, *given), encoder(table, *given))


def test_an_unknown_encoder_is_named():
    with pytest.raises(ValueError, match="no user encoder is called 'oracle'"):
        make_encoder("oracle")
