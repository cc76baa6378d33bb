"""The network as an item model keeps the laws of item models, and scores as the network does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from item_models.laws import ItemModelLaws, all_scores, make_histories
from recsys_spark.item_models import base
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.networks.two_tower import Architecture, TwoTower

ITEMS, LENGTH = 30, 6


def make_network(n_features=0):
    torch.manual_seed(4)
    network = TwoTower(
        Architecture(ITEMS, n_features, LENGTH, dimension=8, hidden=16, heads=2), dropout=0.3
    ).eval()
    with torch.no_grad():
        network.users.recency.normal_()
    return network


class TestNetworkModel(ItemModelLaws):
    @pytest.fixture
    def model(self):
        return NetworkModel.of(make_network())


def test_scores_are_the_networks_cosines_and_biases():
    network = make_network(n_features=3)
    network.items.set_features(torch.randint(0, 4, (ITEMS, 2)))
    with torch.no_grad():
        network.items.content.weight[1:].normal_()
    histories = make_histories(ITEMS)
    windows = [torch.from_numpy(a) for a in histories.last(LENGTH)]
    with torch.no_grad():
        network.items.ids.weight[:, -1].normal_()
        users, items = network(*windows)
        expected = users @ items.T
    found = all_scores(NetworkModel.of(network), histories)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    biases = network.items.ids.weight[:, -1].detach().numpy()
    assert np.abs(found[2] - biases).max() <= 1 + 1e-5


def test_a_batch_s_own_items_are_scored_as_among_all():
    network = make_network(n_features=3)
    network.items.set_features(torch.randint(0, 4, (ITEMS, 2)))
    windows = [torch.from_numpy(a) for a in make_histories(ITEMS).last(LENGTH)]
    ids = torch.tensor([7, 3, 3, 29, 1])
    users, items = network(*windows)
    some_users, some_items = network(*windows, ids)
    torch.testing.assert_close(some_users, users)
    torch.testing.assert_close(some_items, items[ids])
    full = windows[0].clamp(min=1)  # no padding in it
    torch.testing.assert_close(network(full, windows[1], ids)[0], network(full, windows[1])[0])


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
        "from recsys_spark.item_models import base\n"
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
