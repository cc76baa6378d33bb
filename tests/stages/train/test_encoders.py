"""Every user encoder learns synthetic data with a known answer: the next item, or the missing one of a community."""

import numpy as np
import pytest
import torch

from factories import checkerboard, missing_item
from recsys_spark.models.histories import Histories
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.networks.losses import CandidateSampler
from recsys_spark.stages.train.loop import Communicator, train
from stages.train.synthetic_examples import batches_of, circle, examples_of, make_network, make_plan, validation_set

LENGTH, BATCH = 8, 24
SEQUENCES, SETS = ["gru", "lstm", "conv", "attention"], ["mlp", "vae"]


def run(name, histories, next_items, n_items, folder, *, epochs, sampled=False, dropout=0.0, **changes):
    examples = examples_of(histories, LENGTH, "users")
    network = make_network(
        n_items, LENGTH, sparse=sampled, dropout=dropout, encoder=name, examples="users", attention_heads=2
    )
    counts = torch.from_numpy(np.bincount(histories.items, minlength=n_items))
    network.items.set_popularity(counts, 0.2)
    progress = train(
        network,
        make_plan(epochs, len(examples.items) // BATCH, **changes),
        batches=batches_of(examples, BATCH),
        sampler=CandidateSampler(counts, BATCH, 16) if sampled else None,
        validation_set=validation_set(histories, next_items),
        communicator=Communicator(),
        checkpoints=folder,
    )
    return network, progress


def best_new_items(network, histories):
    """Return the best item of each user that is not in the history."""
    model = NetworkModel.of(network)
    scores = model.score_tile(model.encode(histories), 0, model.n_items)
    scores[:, 0] = -np.inf
    scores[np.repeat(np.arange(len(histories)), histories.lengths()), histories.items] = -np.inf
    return scores.argmax(axis=1)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_encoders_learn_the_next_item(name, sampled, tmp_path):
    """Item i + 1 always follows item i, so the newest item tells the next. The set of the items does not."""
    histories, next_items = circle()
    network, progress = run(name, histories, next_items, 25, tmp_path, epochs=20, sampled=sampled)
    assert (best_new_items(network, histories) == next_items).mean() > 0.95
    assert progress.best_ndcg > 0.95


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", [*SETS, "attention"])
def test_encoders_learn_the_items_of_a_community(name, sampled, tmp_path):
    """Users have all items of their community but one. Order carries no information."""
    pairs = checkerboard(48, 16)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(48)])
    next_items = [missing_item(user, 16) for user in range(48)]
    network, _ = run(name, histories, next_items, 17, tmp_path, epochs=80, sampled=sampled)
    assert best_new_items(network, histories).tolist() == next_items


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", [*SETS, *SEQUENCES])
def test_an_interrupted_training_ends_with_the_same_bits(name, sampled, tmp_path):
    histories, next_items = circle()
    arguments = {"epochs": 4, "decay_epochs": 4, "sampled": sampled, "dropout": 0.3}
    full, expected = run(name, histories, next_items, 25, tmp_path / "full", **arguments)
    run(name, histories, next_items, 25, tmp_path / "cut", **{**arguments, "epochs": 2})
    torch.manual_seed(99)  # another process, another state of the generator
    resumed, progress = run(name, histories, next_items, 25, tmp_path / "cut", **arguments)
    assert [e["loss"] for e in progress.epochs] == [e["loss"] for e in expected.epochs]
    for key, tensor in full.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key


def test_a_great_kl_weight_makes_all_users_alike(tmp_path):
    histories, next_items = circle()
    means = []
    for weight in (0.0, 1000.0):
        network, _ = run("vae", histories, next_items, 25, tmp_path / str(weight), epochs=10, kl_weight=weight)
        windows = [torch.from_numpy(a) for a in histories.last(LENGTH)]
        rows = network.items()
        means.append(network.eval().users(network.items.encoder_rows(rows), *windows).detach().abs().mean())
    assert means[1] < 0.1 * means[0]


def test_the_loss_is_a_mean_over_targets(tmp_path):
    """An untrained network knows only popularity, so its loss is about log(items) for any number of targets a user."""
    histories, next_items = circle()
    for name in ("gru", "mlp"):
        _, progress = run(
            name, histories, next_items, 25, tmp_path / name, epochs=1, learning_rate=1e-30, temperature=50.0
        )
        assert progress.epochs[0]["loss"] == pytest.approx(np.log(24), abs=0.05)
