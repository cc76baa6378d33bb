"""Item ridge: the weights against ridge regressions by numpy, one item at a time, with every option."""

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from models.model_contract import ItemModelContract
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemRidgeModel
from recsys_spark.stages.baselines import item_knn, item_ridge
from recsys_spark.stages.baselines.item_ridge import Ridge
from recsys_spark.topk import Exclusions, top_k
from stages.baselines.local import Tasks, checkerboard_matrix, dense, put_pairs, random_matrix

PLAIN = Ridge(user_power=0, regularization=1, target_power=0)
FULL = Ridge(user_power=0.3, regularization=0.7, target_power=0.2)


def fit(folder, matrix, *, neighbours=100, ridge=FULL, parts=3) -> ItemRidgeModel:
    pairs = put_pairs(folder / "pairs", matrix, parts)
    return item_ridge.fit_pairs(Tasks(), pairs, folder / "table", neighbours=neighbours, ridge=ridge)


def naive(matrix: sp.csr_matrix, ridge: Ridge, nearest: np.ndarray) -> np.ndarray:
    """Minimise the docstring's sum by the normal equations. `nearest` bool [item, other]: an item's neighbours."""
    x = (matrix.toarray() > 0).astype(np.float64)
    users, items = np.maximum(x.sum(axis=1), 1), np.maximum(x.sum(axis=0), 1)
    table = np.zeros((x.shape[1],) * 2)
    for i in range(x.shape[1]):
        read = np.flatnonzero(nearest[i])
        weighed = x[:, read] * users[:, None] ** (-2 * ridge.user_power)
        penalty = ridge.regularization * np.eye(len(read))
        table[read, i] = np.linalg.solve(weighed.T @ x[:, read] + penalty, weighed.T @ x[:, i])
        table[read, i] *= items[i] ** -ridge.target_power
    return table


def nearest_of(folder, matrix, neighbours) -> np.ndarray:
    pairs = put_pairs(folder / "nearest", matrix, 1)
    table = item_knn.fit_pairs(Tasks(), pairs, folder / "cosine", neighbours=neighbours, similarity=item_ridge.NEAREST)
    return dense(table) > 0


@pytest.mark.parametrize("ridge", [PLAIN, FULL, Ridge(1.0, 20.0, 0.0), Ridge(0.0, 0.01, 0.5)])
@pytest.mark.parametrize("neighbours", [1, 7, 16, 100])
def test_equals_a_regression_an_item(tmp_path, ridge, neighbours):
    matrix = random_matrix()
    expected = naive(matrix, ridge, nearest_of(tmp_path, matrix, neighbours))
    table = dense(fit(tmp_path, matrix, ridge=ridge, neighbours=neighbours))
    np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-6)


def test_items_that_share_a_cause_get_no_weight(tmp_path):
    """Item 1 makes 2 and 3 likely, independently of each other. Cosine relates 2 and 3, the regression does not."""
    rows = [[0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 0, 0]] * 25 + [[0, 0, 0, 0]] * 100
    matrix = sp.csr_matrix(np.array(rows, np.float32))
    table = dense(fit(tmp_path, matrix, ridge=Ridge(0, 1e-3, 0)))
    assert table[1, 2] == pytest.approx(0.5, abs=1e-3)
    assert table[3, 2] == pytest.approx(0, abs=1e-3)
    assert nearest_of(tmp_path, matrix, 100)[3, 2]


def test_any_number_of_parts_gives_the_same_bytes(tmp_path):
    matrix = random_matrix(n_users=300)
    one = fit(tmp_path / "one", matrix, parts=1)
    other = fit(tmp_path / "other", matrix, parts=4)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_more_entries_than_a_window_give_the_same_gram_matrix(tmp_path):
    matrix = random_matrix(n_users=4000, n_items=40, share=0.5)
    pairs = put_pairs(tmp_path / "pairs", matrix, 2)
    sides, items, weights = (pairs.csr("items"), pairs.csr("users")), np.arange(6, 40, dtype=np.int32), np.ones(41)
    whole = item_ridge.weighted_gram(*sides, items, weights, item_ridge.WINDOW)
    by_windows = item_ridge.weighted_gram(*sides, items, weights, 1000)
    np.testing.assert_array_equal(whole, by_windows)
    x = matrix.toarray()[:, items] > 0
    np.testing.assert_array_equal(np.triu(whole), np.triu(x.T.astype(float) @ x))


def test_a_small_regularization_loses_no_precision(tmp_path):
    matrix = random_matrix(n_users=400)
    ridge = Ridge(0, 1e-5, 0)
    expected = naive(matrix, ridge, nearest_of(tmp_path, matrix, 100))
    np.testing.assert_allclose(dense(fit(tmp_path, matrix, ridge=ridge)), expected, rtol=1e-3, atol=1e-4)


def test_checkerboard_missing_item_comes_first(tmp_path):
    pairs = checkerboard(24, 14)
    model = fit(tmp_path, checkerboard_matrix(pairs, 14), ridge=PLAIN)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(24)])
    exclusions = Exclusions(np.arange(model.n_items) == 0, histories)
    items, _ = top_k(model, model.encode(histories), exclusions, 1, 8)
    assert items[:, 0].tolist() == [missing_item(user, 14) for user in range(24)]


def test_items_with_scores_below_zero_come_last(tmp_path):
    model = fit(tmp_path, random_matrix())
    histories = Histories.of([[1, 2, 7], [8, 9]])
    exclusions = Exclusions(np.arange(model.n_items) == 0, histories)
    items, scores = top_k(model, model.encode(histories), exclusions, model.n_items, 8)
    expected = np.stack([dense(model)[list(h)].sum(axis=0) for h in ([1, 2, 7], [8, 9])])
    listed = items > 0
    # all items but the padding item and the histories
    assert listed.sum(axis=1).tolist() == [model.n_items - 4, model.n_items - 3]
    np.testing.assert_allclose(
        scores[listed], np.take_along_axis(expected, items, axis=1)[listed], rtol=1e-5, atol=1e-7
    )
    assert (scores[listed] < 0).any()


class TestItemRidgeModel(ItemModelContract):
    @pytest.fixture
    def model(self, tmp_path):
        return fit(tmp_path, random_matrix())
