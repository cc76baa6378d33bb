"""The network as an item model keeps the contract of item models, and scores as the network does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.model_contract import ItemModelContract, all_scores, make_histories
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


class TestNetworkModel(ItemModelContract):
    @pytest.fixture(params=["mlp of targets", *(f"{name} of users" for name in ("mlp", *ENCODERS))])
    def model(self, request):
        encoder, examples = request.param.split(" of ")
        return NetworkModel.of(make_network(encoder=encoder, examples=examples))


@pytest.mark.parametrize("encoder", ["mlp", *ENCODERS])
def test_encoding_does_not_depend_on_batch_and_order(encoder):
    """More users than are encoded at once, with full, half empty and empty windows."""
    model = NetworkModel.of(make_network(encoder=encoder, examples="users", length=24, dimension=32, hidden=48))
    rng = np.random.default_rng(0)
    lists = [rng.permutation(np.arange(1, ITEMS))[:n].tolist() for n in rng.integers(0, ITEMS, 300)]
    histories = Histories.of(lists)
    expected = model.encode(histories)
    for size in (1, 131):
        parts = [model.encode(histories.rows(lo, lo + size)) for lo in range(0, 300, size)[:20]]
        np.testing.assert_allclose(np.concatenate(parts), expected[: 20 * size], atol=1e-5)
    order = rng.permutation(300)
    np.testing.assert_allclose(model.encode(histories.take(order)), expected[order], atol=1e-5)


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
        expected = network.encode_users(rows, *windows) @ network.items.scoring_rows(rows).T
    scores = all_scores(NetworkModel.of(network), histories)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)
    biases = network.items.ids.weight[:, -1].detach().numpy()
    assert np.abs(scores[2] - biases).max() <= 1 + 1e-5


@pytest.mark.parametrize("encoder", ["mlp", "gru", "attention"])
def test_the_items_of_a_batch_have_the_rows_of_the_catalogue(encoder):
    examples = "targets" if encoder == "mlp" else "users"
    network = make_network(n_features=3, encoder=encoder, examples=examples)
    network.items.set_features(torch.randint(0, 4, (ITEMS, 2)))
    history, recency = (torch.from_numpy(a) for a in make_histories(ITEMS).last(LENGTH))
    newest, candidates = torch.arange(len(history)) % 5 + 1, torch.tensor([1, 3, 7, 29])
    for window in (history, history.clamp(min=1)):  # with and without padding
        batch = network.users.training_batch(window, recency, newest)
        full, sampled = network(batch), network(batch, candidates)
        torch.testing.assert_close(sampled.users, full.users)
        torch.testing.assert_close(sampled.items[sampled.targets], full.items[full.targets])
        torch.testing.assert_close(sampled.items[sampled.candidates], full.items[candidates])


@pytest.mark.parametrize("encoder", ["mlp", *ENCODERS])
def test_the_explanation_is_the_item_whose_removal_lowers_the_score_most(encoder):
    """Only items of the window are removed. The window then begins with an older item."""
    model, histories = NetworkModel.of(make_network(encoder=encoder, examples="users")), make_histories(ITEMS)
    items = unseen(model, histories)
    found = model.explain(histories, model.encode(histories), items)
    before, checked = all_scores(model, histories), 0
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
                checked += 1
            elif best < -1e-6:
                assert found[user, item] == 0
    assert checked > 100


def test_only_the_window_is_read():
    model = NetworkModel.of(make_network())
    long = base.Histories.of([list(range(1, 15))], [list(range(14))])
    newest = base.Histories.of([list(range(9, 15))], [list(range(8, 14))])
    np.testing.assert_array_equal(all_scores(model, long), all_scores(model, newest))


def test_loading_imports_neither_spark_nor_horovod_nor_petastorm(tmp_path):
    """Executors load the model in a new interpreter, without a warning of the read-only map."""
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
