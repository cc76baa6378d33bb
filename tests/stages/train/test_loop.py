"""The training loop, fed from memory: it learns, stops early, and resumes to the same bits."""

import itertools

import numpy as np
import pytest
import torch

from factories import checkerboard, missing_item
from recsys_spark.models.histories import Histories
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.networks.losses import CandidateSampler
from recsys_spark.stages.train.loop import Communicator, train
from stages.train.synthetic_examples import batches_of, circle, examples_of, make_network, make_plan, validation_set

LENGTH, BATCH = 8, 64


def counts_of(histories, n_items):
    return torch.from_numpy(np.bincount(histories.items, minlength=n_items))


def run(histories, next_items, n_items, folder, *, epochs=40, sampled=False, network=None, feed=None, **changes):
    examples = examples_of(histories, LENGTH)
    network = network or make_network(n_items, LENGTH, sparse=sampled)
    progress = train(
        network,
        make_plan(epochs, len(examples.items) // BATCH, **changes),
        batches=feed or batches_of(examples, BATCH),
        sampler=CandidateSampler(counts_of(histories, n_items), BATCH, 16) if sampled else None,
        validation_set=validation_set(histories, next_items) if next_items else None,
        communicator=Communicator(),
        checkpoints=folder,
    )
    return network, progress


def best_new_item(network, histories):
    """Return the best item of each user that is not in the history."""
    model = NetworkModel.of(network)
    scores = model.score_tile(model.encode(histories), 0, model.n_items)
    scores[:, 0] = -np.inf
    scores[np.repeat(np.arange(len(histories)), histories.lengths()), histories.items] = -np.inf
    return scores.argmax(axis=1).tolist()


@pytest.mark.parametrize("sampled", [False, True])
def test_it_learns_the_order_of_items(tmp_path, sampled):
    """Without order both neighbours of a user's items are equally good, so half of the predictions would be wrong."""
    histories, next_items = circle()
    network, progress = run(histories, next_items, 25, tmp_path, sampled=sampled, epochs=60)
    accuracy = np.mean([a == b for a, b in zip(best_new_item(network, histories), next_items)])
    assert accuracy > 0.95
    assert progress.best_ndcg > 0.95


@pytest.mark.parametrize("sampled", [False, True])
def test_it_learns_the_checkerboard(tmp_path, sampled):
    pairs = checkerboard(48, 16)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(48)])
    next_items = [missing_item(user, 16) for user in range(48)]
    network, _ = run(histories, None, 17, tmp_path, sampled=sampled, epochs=30)
    assert best_new_item(network, histories) == next_items


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_killed_training_ends_with_the_same_bits(tmp_path, sampled, stop):
    histories, next_items = circle()
    nets = [make_network(25, LENGTH, sparse=sampled, dropout=0.3) for _ in range(2)]
    full, expected = run(histories, next_items, 25, tmp_path / "full", epochs=5, sampled=sampled, network=nets[0])
    feed = batches_of(examples_of(histories, LENGTH), BATCH)

    def breaks(epoch):
        if epoch <= stop:
            yield from feed(epoch)
        else:
            yield from itertools.islice(feed(epoch), 2)
            raise InterruptedError("killed")

    killed = make_network(25, LENGTH, sparse=sampled, dropout=0.3)
    with pytest.raises(InterruptedError):
        run(histories, next_items, 25, tmp_path / "cut", epochs=5, sampled=sampled, network=killed, feed=breaks)
    torch.manual_seed(99)  # another process, another state of the generator
    resumed, progress = run(histories, next_items, 25, tmp_path / "cut", epochs=5, sampled=sampled, network=nets[1])
    assert [e["loss"] for e in progress.epochs] == [e["loss"] for e in expected.epochs]
    for name, tensor in full.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_it_stops_early_without_progress(tmp_path):
    """A learning rate near 0 leaves the NDCG as it is, so the first epoch is best and patience ends the training."""
    histories, next_items = circle()
    _, progress = run(histories, next_items, 25, tmp_path, epochs=20, patience=3, learning_rate=1e-30)
    assert (progress.best_epoch, len(progress.epochs)) == (1, 1 + 3)


def test_the_weights_are_those_of_the_best_epoch(tmp_path):
    histories, next_items = circle()
    network, progress = run(histories, next_items, 25, tmp_path, epochs=12, learning_rate=0.4)
    assert progress.best_epoch < 12  # the NDCG rises and falls at this rate
    best = make_network(25, LENGTH)
    run(
        histories,
        next_items,
        25,
        tmp_path / "again",
        epochs=progress.best_epoch,
        decay_epochs=12,
        learning_rate=0.4,
        network=best,
    )
    for name, tensor in network.state_dict().items():
        assert torch.equal(best.state_dict()[name], tensor), name


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    histories, _ = circle()
    _, progress = run(histories, None, 25, tmp_path, epochs=4, patience=1)
    assert (progress.best_epoch, len(progress.epochs)) == (4, 4)
    assert progress.epochs[0]["ndcg"] is None


def test_the_epochs_fit_into_the_time(tmp_path):
    """A millisecond leaves the minimum of two epochs, at whose end the learning rate is 0. A day is enough for all."""
    histories, next_items = circle()
    for seconds, expected in ((0.001, 2), (86_400.0, 5)):
        _, progress = run(histories, next_items, 25, tmp_path / str(expected), epochs=5, seconds=seconds)
        assert len(progress.epochs) == expected
        assert progress.epochs[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


def test_a_resumed_training_keeps_its_epoch_limit(tmp_path):
    histories, next_items = circle()
    feed = batches_of(examples_of(histories, LENGTH), BATCH)

    def breaks(epoch):
        if epoch > 1:
            raise InterruptedError("killed")
        yield from feed(epoch)

    with pytest.raises(InterruptedError):
        run(histories, next_items, 25, tmp_path, epochs=5, seconds=0.001, feed=breaks)
    _, progress = run(histories, next_items, 25, tmp_path, epochs=5, seconds=0.001)
    assert len(progress.epochs) == 2
