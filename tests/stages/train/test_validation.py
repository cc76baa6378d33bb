"""The validation NDCG equals scikit-learn's without the items of the history, for any tile."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from recsys_spark.models.histories import Histories
from recsys_spark.stages.train import validation
from recsys_spark.stages.train.validation import ndcg_sum
from recsys_spark.stages.train.validation_set import ValidationSet
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
    indptr = np.concatenate([[0], np.cumsum([len(p) for p in positives])])
    validation_set = ValidationSet(histories, indptr, np.concatenate(positives))
    return make_network(ITEMS, LENGTH), validation_set, positives


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("cells", [1, 60, 1 << 24])
def test_equals_scikit_learn(case, monkeypatch, k, cells):
    network, validation_set, positives = case
    monkeypatch.setattr(validation, "CELLS", cells)
    monkeypatch.setattr(validation, "USERS", 5)
    with torch.no_grad():
        rows, windows = network.items(), [torch.from_numpy(a) for a in validation_set.histories.last(LENGTH)]
        users = network.encode_users(rows, *windows)
        scores = (users @ network.items.scoring_rows(rows).T).numpy().astype(float)
    expected = 0.0
    for u, held_out in enumerate(positives):
        open_items = np.setdiff1d(np.arange(1, ITEMS), validation_set.histories.rows(u, u + 1).items)
        expected += ndcg_score([np.isin(open_items, held_out)], [scores[u, open_items]], k=k)
    total, users = ndcg_sum(network, validation_set, k, CPU)
    assert users == 12
    assert total == pytest.approx(expected, rel=1e-6)


def test_the_parts_of_the_workers_add_up(case):
    network, validation_set, _ = case
    parts = [validation_set.users(0, 5), validation_set.users(5, 12)]
    sums = np.array([ndcg_sum(network, part, 5, CPU) for part in parts]).sum(axis=0)
    assert tuple(sums) == pytest.approx(ndcg_sum(network, validation_set, 5, CPU))


def test_a_worker_without_validation_users(case):
    empty = ValidationSet(Histories.of([]), np.zeros(1, np.int64), np.zeros(0, np.int32))
    assert ndcg_sum(case[0], empty, 5, CPU) == (0, 0)
