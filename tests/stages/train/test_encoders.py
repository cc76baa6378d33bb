"""Every user encoder in the loop, on worlds with a known answer: what follows is known from order, what is missing from the community."""

import numpy as np
import pytest
import torch

from factories import checkerboard, missing_item
from recsys_spark.models.histories import Histories
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.stages.train.loop import Communicator, train
from recsys_spark.stages.train.negatives import Candidates
from stages.train.synthetic_examples import batches_of, circle, examples_of, held, make_network, make_plan

LENGTH, BATCH = 8, 24
ORDERED, SETS = ["gru", "lstm", "conv", "attention"], ["mlp", "vae"]


def run(name, histories, answers, n_items, folder, *, epochs, sampled=False, dropout=0.0, **changes):
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
        candidates=Candidates(counts, BATCH, 16) if sampled else None,
        held=held(histories, answers),
        communicator=Communicator(),
        checkpoints=folder,
    )
    return network, progress


def first_open_items(network, histories):
    """The highest item of each user that the history does not hold."""
    model = NetworkModel.of(network)
    scores = model.score_tile(model.encode(histories), 0, model.n_items)
    scores[:, 0] = -np.inf
    scores[np.repeat(np.arange(len(histories)), histories.lengths()), histories.items] = -np.inf
    return scores.argmax(axis=1)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", ORDERED)
def test_those_of_order_learn_what_follows(name, sampled, tmp_path):
    """Item i is always followed by i + 1, so the newest item alone tells the next; a set of the items does not."""
    histories, answers = circle()
    network, progress = run(name, histories, answers, 25, tmp_path, epochs=20, sampled=sampled)
    assert (first_open_items(network, histories) == answers).mean() > 0.95
    assert progress.best_ndcg > 0.95


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", [*SETS, "attention"])
def test_they_learn_what_a_community_has(name, sampled, tmp_path):
    """Users have all but one of the items of their own community, which they miss. Nothing tells of order."""
    pairs = checkerboard(48, 16)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(48)])
    answers = [missing_item(user, 16) for user in range(48)]
    network, _ = run(name, histories, answers, 17, tmp_path, epochs=80, sampled=sampled)
    assert first_open_items(network, histories).tolist() == answers


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", [*SETS, *ORDERED])
def test_an_interrupted_training_ends_with_the_same_bits(name, sampled, tmp_path):
    histories, answers = circle()
    given = {"epochs": 4, "decay_epochs": 4, "sampled": sampled, "dropout": 0.3}
    whole, expected = run(name, histories, answers, 25, tmp_path / "whole", **given)
    run(name, histories, answers, 25, tmp_path / "cut", **{**given, "epochs": 2})
    torch.manual_seed(99)  # another process, another state of the generator
    resumed, progress = run(name, histories, answers, 25, tmp_path / "cut", **given)
    assert [e["loss"] for e in progress.epochs] == [e["loss"] for e in expected.epochs]
    for key, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key


def test_a_heavy_divergence_takes_all_that_is_known_of_a_user(tmp_path):
    histories, answers = circle()
    means = []
    for weight in (0.0, 1000.0):
        network, _ = run("vae", histories, answers, 25, tmp_path / str(weight), epochs=10, kl_weight=weight)
        windows = [torch.from_numpy(a) for a in histories.last(LENGTH)]
        rows = network.items()
        means.append(network.eval().users(network.items.as_read(rows), *windows).detach().abs().mean())
    assert means[1] < 0.1 * means[0]


def test_the_loss_is_a_mean_over_targets(tmp_path):
    """Of an untrained network that knows only shares: about the logarithm of the number of items, whatever the encoder asks."""
    histories, answers = circle()
    for name in ("gru", "mlp"):
        _, progress = run(
            name, histories, answers, 25, tmp_path / name, epochs=1, learning_rate=1e-30, temperature=50.0
        )
        assert progress.epochs[0]["loss"] == pytest.approx(np.log(24), abs=0.05)
