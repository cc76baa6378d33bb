"""The loop alone, fed from memory: it learns, stops, and resumes to the same bits."""

import itertools

import numpy as np
import pytest
import torch

from factories import checkerboard, missing_item
from recsys_spark.models.histories import Histories
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.stages.train.loop import (
    Communicator,
    Progress,
    affordable,
    divergence_weight,
    learning_rate,
    train,
)
from recsys_spark.stages.train.negatives import Candidates
from stages.train.synthetic_examples import batches_of, circle, examples_of, held, make_network, make_plan

LENGTH, BATCH = 8, 64


def counts_of(histories, n_items):
    return torch.from_numpy(np.bincount(histories.items, minlength=n_items))


def run(histories, answers, n_items, folder, *, epochs=40, sampled=False, network=None, feed=None, **changes):
    examples = examples_of(histories, LENGTH)
    network = network or make_network(n_items, LENGTH, sparse=sampled)
    progress = train(
        network,
        make_plan(epochs, len(examples.items) // BATCH, **changes),
        batches=feed or batches_of(examples, BATCH),
        candidates=Candidates(counts_of(histories, n_items), BATCH, 16) if sampled else None,
        held=held(histories, answers) if answers else None,
        communicator=Communicator(),
        checkpoints=folder,
    )
    return network, progress


def first_open_item(network, histories):
    """The highest item of each user that the history does not hold."""
    model = NetworkModel.of(network)
    scores = model.score_tile(model.encode(histories), 0, model.n_items)
    scores[:, 0] = -np.inf
    scores[np.repeat(np.arange(len(histories)), histories.lengths()), histories.items] = -np.inf
    return scores.argmax(axis=1).tolist()


@pytest.mark.parametrize("sampled", [False, True])
def test_it_learns_a_world_where_only_order_tells(tmp_path, sampled):
    """Without order both neighbours of a walk are equally good, so half of the users would be wrong."""
    histories, answers = circle()
    network, progress = run(histories, answers, 25, tmp_path, sampled=sampled, epochs=60)
    right = np.mean([a == b for a, b in zip(first_open_item(network, histories), answers)])
    assert right > 0.95
    assert progress.best_ndcg > 0.95


@pytest.mark.parametrize("sampled", [False, True])
def test_it_learns_the_checkerboard(tmp_path, sampled):
    pairs = checkerboard(48, 16)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(48)])
    answers = [missing_item(user, 16) for user in range(48)]
    network, _ = run(histories, None, 17, tmp_path, sampled=sampled, epochs=30)
    assert first_open_item(network, histories) == answers


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_killed_training_ends_with_the_same_bits(tmp_path, sampled, stop):
    histories, answers = circle()
    nets = [make_network(25, LENGTH, sparse=sampled, dropout=0.3) for _ in range(2)]
    whole, expected = run(histories, answers, 25, tmp_path / "whole", epochs=5, sampled=sampled, network=nets[0])
    feed = batches_of(examples_of(histories, LENGTH), BATCH)

    def breaks(epoch):
        if epoch <= stop:
            yield from feed(epoch)
        else:
            yield from itertools.islice(feed(epoch), 2)
            raise InterruptedError("killed")

    killed = make_network(25, LENGTH, sparse=sampled, dropout=0.3)
    with pytest.raises(InterruptedError):
        run(histories, answers, 25, tmp_path / "cut", epochs=5, sampled=sampled, network=killed, feed=breaks)
    torch.manual_seed(99)  # another process, another state of the generator
    resumed, progress = run(histories, answers, 25, tmp_path / "cut", epochs=5, sampled=sampled, network=nets[1])
    assert [e["loss"] for e in progress.epochs] == [e["loss"] for e in expected.epochs]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_it_stops_without_progress_and_keeps_the_best(tmp_path):
    """A learning rate of nothing leaves the NDCG as it is, so the first epoch is the best and patience runs out."""
    histories, answers = circle()
    _, progress = run(histories, answers, 25, tmp_path, epochs=20, patience=3, learning_rate=1e-30)
    assert (progress.best_epoch, len(progress.epochs)) == (1, 1 + 3)


def test_the_weights_are_those_of_the_best_epoch(tmp_path):
    histories, answers = circle()
    network, progress = run(histories, answers, 25, tmp_path, epochs=12, learning_rate=0.4)
    assert progress.best_epoch < 12  # at this rate it goes up and down
    best = make_network(25, LENGTH)
    run(
        histories,
        answers,
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


def test_progress_waits_for_patience():
    plan = make_plan(10, 1, patience=2)
    progress = Progress()
    better = [progress.add({"epoch": e, "ndcg": n}) for e, n in enumerate([0.1, 0.3, 0.3], start=1)]
    assert better == [True, True, False]
    assert not progress.done(plan)
    progress.add({"epoch": 4, "ndcg": 0.2})
    assert progress.done(plan)
    assert progress.best_epoch == 2


@pytest.mark.parametrize(("at", "expected"), [(0.25, 0.5), (0.5, 1.0), (5.25, 0.5), (10, 0.0), (11, 0.0)])
def test_learning_rate_rises_and_falls_times_the_workers(at, expected):
    plan = make_plan(10, 5, learning_rate=0.01, warmup_epochs=0.5)
    assert learning_rate(plan, at, workers=3) == pytest.approx(0.01 * 3 * expected, abs=1e-12)


def test_learning_rate_does_not_depend_on_where_training_ends():
    """The release stops at the backtest's best epoch, and until then does what the backtest did."""
    backtest, release = make_plan(10, 5, decay_epochs=10), make_plan(7, 5, decay_epochs=10)
    assert [learning_rate(backtest, at, 2) for at in range(8)] == [learning_rate(release, at, 2) for at in range(8)]
    assert learning_rate(make_plan(4, 5, learning_rate=0.01, warmup_epochs=0.0), 1, workers=1) == pytest.approx(
        0.01 * 3 / 4
    )


def test_epochs_are_cut_to_the_time_there_is(tmp_path):
    """A millisecond is too little for two epochs, and two there are: the rate falls to nothing at their end. A day is enough for all."""
    histories, answers = circle()
    for seconds, expected in ((0.001, 2), (86_400.0, 5)):
        _, progress = run(histories, answers, 25, tmp_path / str(expected), epochs=5, seconds=seconds)
        assert len(progress.epochs) == expected
        assert progress.epochs[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)
    plan = make_plan(5, 1, seconds=0.001)
    assert progress.within(plan) == plan
    assert Progress(affordable=2).within(plan).decay_epochs == 2


@pytest.mark.parametrize(("first", "expected"), [(10.0, None), (12.0, None), (12.1, 4), (70.0, 2)])
def test_the_first_epoch_tells_how_many_fit(first, expected):
    assert affordable(make_plan(5, 1, seconds=60.0), first, Communicator()) == expected


def test_what_time_allowed_is_remembered_by_a_training_that_goes_on(tmp_path):
    histories, answers = circle()
    feed = batches_of(examples_of(histories, LENGTH), BATCH)

    def breaks(epoch):
        if epoch > 1:
            raise InterruptedError("killed")
        yield from feed(epoch)

    with pytest.raises(InterruptedError):
        run(histories, answers, 25, tmp_path, epochs=5, seconds=0.001, feed=breaks)
    _, progress = run(histories, answers, 25, tmp_path, epochs=5, seconds=0.001)
    assert len(progress.epochs) == 2


def test_divergence_counts_more_and_more_until_the_end():
    plan = make_plan(3, 5, kl_weight=0.4, decay_epochs=4)
    assert [divergence_weight(plan, at) for at in (0, 1, 3, 4, 5)] == pytest.approx([0, 0.1, 0.3, 0.4, 0.4])


def test_divergence_counts_in_full_where_training_goes_on():
    plan = make_plan(2, 5, kl_weight=0.4, warm=True)
    assert [divergence_weight(plan, at) for at in (0, 1, 2)] == [0.4] * 3


def test_negatives_are_real_items_and_the_same_for_the_same_seed():
    candidates = Candidates(torch.tensor([0, 5, 3, 2]), batch=2, negatives=500)
    targets = torch.tensor([3, 1])
    ids, offsets = candidates.draw(targets, torch.Generator().manual_seed(1))
    assert ids.tolist() == [1, 2, 3]
    expected = torch.tensor([2 * 5 / 10 + 500 / 3, 2 * 3 / 10 + 500 / 3, 2 * 2 / 10 + 500 / 3])
    times = offsets.exp() * expected
    torch.testing.assert_close(times, times.round())
    assert times.sum() == pytest.approx(2 + 500)
    again = candidates.draw(targets, torch.Generator().manual_seed(1))
    assert torch.equal(offsets, again[1])


def test_of_many_targets_as_many_as_examples_are_candidates():
    candidates = Candidates(torch.tensor([0, *[3] * 50]), batch=5, negatives=1)
    drawn = [candidates.draw(torch.arange(1, 41), torch.Generator().manual_seed(seed))[0] for seed in range(20)]
    assert {len(ids) for ids in drawn} <= {5, 6}
    assert len(set(torch.cat(drawn).tolist())) > 30  # others each time
