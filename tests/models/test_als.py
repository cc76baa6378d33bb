"""The factor model's laws."""

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from models.model_contract import ItemModelContract, close, make_histories
from models.test_ridge import naive, solve
from recsys_spark.models.als import AlsModel
from recsys_spark.models.histories import Histories
from recsys_spark.models.ridge import Objective, gram_of

OBJECTIVE = Objective(confidence=0.7, unobserved_weight=0.2, regularization=0.03, regularization_exponent=0.8)
FACTORS = 8


class TestAlsModel(ItemModelContract):
    @pytest.fixture
    def model(self):
        items = np.random.default_rng(4).normal(0, 0.3, (30, FACTORS)).astype(np.float32)
        items[0] = 0
        return AlsModel(30, vars(OBJECTIVE), {"items": items, "gram": gram_of(items).astype(np.float32)})

    def test_users_without_history_have_the_zero_vector(self, model):
        assert not model.encode(Histories.of([[], [1], []]))[[0, 2]].any()

    def test_users_equal_naive_solves(self, model):
        histories = make_histories(30)
        items = model.arrays["items"]
        shifted = sp.csr_matrix((histories.weights, histories.items - 1, histories.indptr), (len(histories), 29))
        close(model.encode(histories), naive(shifted, items[1:], OBJECTIVE))

    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_a_user_is_the_same_bits_in_any_batch(self, model, size):
        histories = make_histories(30)
        parts = [model.encode(batch) for batch in histories.batches(size)]
        np.testing.assert_array_equal(np.concatenate(parts), model.encode(histories))


def alternate(pairs: list[tuple[int, int]], n_items: int, iterations: int, factors: int = 4) -> AlsModel:
    users, items = np.array(pairs).T
    matrix = sp.csr_matrix((np.ones(len(pairs), np.float32), (users, items)), (users.max() + 1, n_items + 1))
    objective = Objective(confidence=1.0, unobserved_weight=0.1, regularization=0.01, regularization_exponent=1.0)
    y = np.random.default_rng(0).normal(0, 0.1, (n_items + 1, factors)).astype(np.float32)
    y[0] = 0
    for _ in range(iterations):
        x, _ = solve(matrix, y, objective)
        y, _ = solve(matrix.T.tocsr(), x, objective)
    return AlsModel(n_items + 1, vars(objective), {"items": y, "gram": gram_of(y).astype(np.float32)})


def test_checkerboard_missing_item_comes_first():
    pairs = checkerboard(20, 12)
    model = alternate(pairs, 12, iterations=5)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(20)])
    scores = model.score_tile(model.encode(histories), 0, 13).copy()
    scores[:, 0] = -np.inf
    for user, item in pairs:
        scores[user, item] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 12) for user in range(20)]
