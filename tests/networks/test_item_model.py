"""The network as an item model keeps the laws of item models, and scores as the network does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.model_contract import ItemModelLaws, all_scores, make_histories
from models.test_explanations import each_user, unseen
from recsys_spark.models import base
from recsys_spark.models.histories import Histories
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.networks.two_tower import TwoTower

ITEMS, LENGTH = 30, 6


ENCODERS = ["vae", "gru", "lstm", "conv", "attention"]


def make_network(n_features=0, length=LENGTH, **architecture):
    torch.manual_seed(4)
    shape = {"dimension": 8, "hidden": 16, "heads": 2, "layers": 2, "attention_heads": 2, **architecture}
    network = TwoTower(Architecture(ITEMS, n_features, length, **shape), dropout=0.3).eval()
    network.items.set_popularity(torch.arange(ITEMS), temperature=0.1)
    if network.architecture.encoder == "mlp":
        torch.nn.init.normal_(network.users.recency)
    return network


class TestNetworkModel(ItemModelLaws):
    @pytest.fixture(params=["mlp of targets", *(f"{name} of users" for name in ("mlp", *ENCODERS))])
    def model(self, request):
        encoder, examples = request.param.split(" of ")
        return NetworkModel.of(make_network(encoder=encoder, examples=examples))


@pytest.mark.parametrize("encoder", ["mlp", *ENCODERS])
def test_users_are_encoded_to_the_same_bits_in_any_batch(encoder):
    """More users than are encoded at a time, of windows that are full, half empty and empty."""
    model = NetworkModel.of(make_network(encoder=encoder, examples="users", length=24, dimension=32, hidden=48))
    rng = np.random.default_rng(0)
    lists = [rng.permutation(np.arange(1, ITEMS))[:n].tolist() for n in rng.integers(0, ITEMS, 300)]
    histories = Histories.of(lists)
    whole = model.encode(histories)
    for size in (1, 131):
        parts = [model.encode(histories.rows(lo, lo + size)) for lo in range(0, 300, size)[:20]]
        np.testing.assert_array_equal(np.concatenate(parts), whole[: 20 * size])
    order = rng.permutation(300)
    np.testing.assert_array_equal(model.encode(histories.take(order)), whole[order])


@pytest.mark.parametrize("encoder", ["mlp", *ENCODERS])
def test_scores_are_the_networks_cosines_and_biases(encoder):
    network = make_network(n_features=3, encoder=encoder, examples="users")
    network.items.set_features(torch.randint(0, 4, (ITEMS, 2)))
    with torch.no_grad():
        network.items.content.weight[1:].normal_()
    histories = make_histories(ITEMS)
    windows = [torch.from_numpy(a) for a in histories.last(LENGTH)]
    with torch.no_grad():
        network.items.ids.weight[:, -1].normal_()
        rows = network.items()
        expected = network.encode_users(rows, *windows) @ network.items.as_one(rows).T
    found = all_scores(NetworkModel.of(network), histories)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    biases = network.items.ids.weight[:, -1].detach().numpy()
    assert np.abs(found[2] - biases).max() <= 1 + 1e-5


@pytest.mark.parametrize("encoder", ["mlp", "gru", "attention"])
def test_a_batch_s_own_items_are_scored_as_among_all(encoder):
    examples = "targets" if encoder == "mlp" else "users"
    network = make_network(n_features=3, encoder=encoder, examples=examples)
    network.items.set_features(torch.randint(0, 4, (ITEMS, 2)))
    history, recency = (torch.from_numpy(a) for a in make_histories(ITEMS).last(LENGTH))
    newest, candidates = torch.arange(len(history)) % 5 + 1, torch.tensor([1, 3, 7, 29])
    for window in (history, history.clamp(min=1)):  # without padding, too
        questions = network.users.questions(window, recency, newest)
        every, some = network(questions), network(questions, candidates)
        torch.testing.assert_close(some.users, every.users)
        torch.testing.assert_close(some.items[some.targets], every.items[every.targets])
        torch.testing.assert_close(some.items[some.candidates], every.items[candidates])


@pytest.mark.parametrize("encoder", ["mlp", *ENCODERS])
def test_the_reason_is_the_item_whose_loss_costs_most(encoder):
    """Of the window; what the window would then show at its other end is an older item."""
    model, histories = NetworkModel.of(make_network(encoder=encoder, examples="users")), make_histories(ITEMS)
    items = unseen(model, histories)
    found = model.reasons(histories, model.encode(histories), items)
    before, given = all_scores(model, histories), 0
    for user, own, _ in each_user(histories):
        times = histories.times[histories.indptr[user] : histories.indptr[user + 1]]
        places = range(max(len(own) - LENGTH, 0), len(own))
        without = [np.delete(own, place).tolist() for place in places]
        if not without:
            assert not found[user].any()
            continue
        after = all_scores(model, Histories.of(without, [np.delete(times, p).tolist() for p in places]))
        costs = before[user] - after
        for item in np.flatnonzero(items[user]):
            best = costs[:, item].max()
            if best > 1e-6:
                cost = costs[own[places.start :].tolist().index(found[user, item]), item]
                assert cost >= best - 1e-6
                given += 1
            elif best < -1e-6:
                assert found[user, item] == 0
    assert given > 100


def test_only_the_window_counts():
    model = NetworkModel.of(make_network())
    long = base.Histories.of([list(range(1, 15))], [list(range(14))])
    newest = base.Histories.of([list(range(9, 15))], [list(range(8, 14))])
    np.testing.assert_array_equal(all_scores(model, long), all_scores(model, newest))


def test_a_worker_needs_neither_spark_nor_the_trainer(tmp_path):
    """Executors load the model in a bare interpreter, read-only map and all, without a warning."""
    base.save(tmp_path / "network", NetworkModel.of(make_network()))
    code = (
        "import sys, json, pathlib, warnings; warnings.simplefilter('error')\n"
        "from recsys_spark.models import base\n"
        "from recsys_spark.networks.item_model import NetworkModel\n"
        f"model = base.load(pathlib.Path({str(tmp_path / 'network')!r}), {{'network': NetworkModel}})\n"
        "scores = model.score_tile(model.encode(base.Histories.of([[1, 2, 3]])), 0, model.n_items)\n"
        "print(json.dumps([scores.tolist(), [m for m in ('pyspark', 'horovod', 'petastorm') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scores, loaded = json.loads(done.stdout)
    assert loaded == []
    here = all_scores(NetworkModel.of(make_network()), base.Histories.of([[1, 2, 3]]))
    np.testing.assert_allclose(scores, here, atol=1e-6)
