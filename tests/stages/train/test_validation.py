"""The valid NDCG against scikit-learn's, with the history out of the ranking, for any tile."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from recsys_spark.models.histories import Histories
from recsys_spark.stages.train import validation
from recsys_spark.stages.train.validation import ndcg_sum
from recsys_spark.stages.train.validation_set import Held
from stages.train.synthetic_examples import make_network

ITEMS, LENGTH = 25, 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.arange(1, ITEMS))[:n] for n in rng.integers(4, 20, 12)]
    histories = Histories.of([row[:-3].tolist() for row in chosen])
    # one to three items held out
    positives = [np.sort(row[-1 - u % 3 :]).astype(np.int32) for u, row in enumerate(chosen)]
    held = Held(histories, np.concatenate([[0], np.cumsum([len(p) for p in positives])]), np.concatenate(positives))
    return make_network(ITEMS, LENGTH), held, positives


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("cells", [1, 60, 1 << 24])
def test_equals_scikit_learn(case, monkeypatch, k, cells):
    network, held, positives = case
    monkeypatch.setattr(validation, "CELLS", cells)
    monkeypatch.setattr(validation, "USERS", 5)
    with torch.no_grad():
        rows, windows = network.items(), [torch.from_numpy(a) for a in held.histories.last(LENGTH)]
        users = network.encode_users(rows, *windows)
        scores = (users @ network.items.as_one(rows).T).numpy().astype(float)
    expected = 0.0
    for u, own in enumerate(positives):
        open_items = np.setdiff1d(np.arange(1, ITEMS), held.histories.rows(u, u + 1).items)
        expected += ndcg_score([np.isin(open_items, own)], [scores[u, open_items]], k=k)
    total, users = ndcg_sum(network, held, k, CPU)
    assert users == 12
    assert total == pytest.approx(expected, rel=1e-6)


def test_shares_add_up(case):
    network, held, _ = case
    parts = []
    for lo, hi in [(0, 5), (5, 12)]:
        indptr = held.indptr[lo : hi + 1]
        parts.append(Held(held.histories.rows(lo, hi), indptr - indptr[0], held.items[indptr[0] : indptr[-1]]))
    sums = np.array([ndcg_sum(network, part, 5, CPU) for part in parts]).sum(axis=0)
    assert tuple(sums) == pytest.approx(ndcg_sum(network, held, 5, CPU))


def test_nobody_to_ask(case):
    assert ndcg_sum(case[0], Held(Histories.of([]), np.zeros(1, np.int64), np.zeros(0, np.int32)), 5, CPU) == (0, 0)
