"""The weights against ridge regressions by numpy, one item at a time, with every option."""

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from models.model_contract import ItemModelLaws
from recsys_spark.models.heap import Hidden
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemRidgeModel
from recsys_spark.stages.baselines import item_knn, item_ridge
from recsys_spark.stages.baselines.item_ridge import Ridge
from recsys_spark.topk.search import top_candidates
from stages.baselines.local import Tasks, checkerboard_matrix, dense, put_pairs, random_matrix

PLAIN = Ridge(user_power=0, regularization=1, target_power=0)
FULL = Ridge(user_power=0.3, regularization=0.7, target_power=0.2)


def fit(folder, matrix, *, neighbours=100, ridge=FULL, blocks=3) -> ItemRidgeModel:
    pairs = put_pairs(folder / "pairs", matrix, blocks)
    return item_ridge.fit(Tasks(), pairs, folder / "table", neighbours=neighbours, ridge=ridge)


def naive(matrix: sp.csr_matrix, ridge: Ridge, nearest: np.ndarray) -> np.ndarray:
    """The least of the docstring's sum, by the normal equations; `nearest` bool [item, other] says what is read for an item."""
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
    table = item_knn.fit(Tasks(), pairs, folder / "cosine", neighbours=neighbours, similarity=item_ridge.NEAREST)
    return dense(table) > 0


@pytest.mark.parametrize("ridge", [PLAIN, FULL, Ridge(1.0, 20.0, 0.0), Ridge(0.0, 0.01, 0.5)])
@pytest.mark.parametrize("neighbours", [1, 7, 16, 100])
def test_equals_a_regression_an_item(tmp_path, ridge, neighbours):
    matrix = random_matrix()
    expected = naive(matrix, ridge, nearest_of(tmp_path, matrix, neighbours))
    found = dense(fit(tmp_path, matrix, ridge=ridge, neighbours=neighbours))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_an_item_that_only_shares_a_cause_says_nothing(tmp_path):
    """Who has 1 has 2 and 3. Cosine puts 2 and 3 near each other; once 1 is known, 3 tells nothing more of 2."""
    rows = [[0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 0, 0]] * 25 + [[0, 0, 0, 0]] * 100
    matrix = sp.csr_matrix(np.array(rows, np.float32))
    found = dense(fit(tmp_path, matrix, ridge=Ridge(0, 1e-3, 0)))
    assert found[1, 2] == pytest.approx(0.5, abs=1e-3)
    assert found[3, 2] == pytest.approx(0, abs=1e-3)
    assert nearest_of(tmp_path, matrix, 100)[3, 2]


def test_the_same_bits_for_any_number_of_blocks(tmp_path):
    matrix = random_matrix(n_users=300)
    one = fit(tmp_path / "one", matrix, blocks=1)
    other = fit(tmp_path / "other", matrix, blocks=4)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_entries_are_sorted_window_by_window(tmp_path):
    """More entries than a window holds."""
    sides = put_pairs(tmp_path / "pairs", random_matrix(n_users=4000, n_items=40, share=0.5), 2)
    items, users = sides.side("items"), sides.side("users")
    others, weight = np.arange(7, 40, dtype=np.int32), np.ones(41)
    whole, cut = np.empty((34, 34)), np.empty((34, 34))
    item_ridge._add_up(items.starts, users.starts, others, 6, weight, whole, item_ridge.WINDOW)
    item_ridge._add_up(items.starts, users.starts, others, 6, weight, cut, 1000)
    np.testing.assert_array_equal(np.triu(whole), np.triu(cut))
    x = random_matrix(n_users=4000, n_items=40, share=0.5).toarray()[:, [*others, 6]] > 0
    np.testing.assert_array_equal(np.triu(whole), np.triu(x.T.astype(float) @ x))


def test_what_is_too_steep_for_float32_is_solved_in_doubles(tmp_path):
    matrix = random_matrix(n_users=400)
    ridge = Ridge(0, 1e-5, 0)
    expected = naive(matrix, ridge, nearest_of(tmp_path, matrix, 100))
    np.testing.assert_allclose(dense(fit(tmp_path, matrix, ridge=ridge)), expected, rtol=1e-3, atol=1e-4)


def test_checkerboard_missing_item_comes_first(tmp_path):
    pairs = checkerboard(24, 14)
    model = fit(tmp_path, checkerboard_matrix(pairs, 14), ridge=PLAIN)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(24)])
    hidden = Hidden(np.arange(model.n_items) == 0, histories)
    found, _ = top_candidates(model, model.encode(histories), hidden, 1, 8)
    assert found[:, 0].tolist() == [missing_item(user, 14) for user in range(24)]


def test_items_spoken_against_come_last(tmp_path):
    model = fit(tmp_path, random_matrix())
    histories = Histories.of([[1, 2, 7], [8, 9]])
    hidden = Hidden(np.arange(model.n_items) == 0, histories)
    items, scores = top_candidates(model, model.encode(histories), hidden, model.n_items, 8)
    expected = np.stack([dense(model)[list(h)].sum(axis=0) for h in ([1, 2, 7], [8, 9])])
    listed = items > 0
    assert listed.sum(axis=1).tolist() == [
        model.n_items - 4,
        model.n_items - 3,
    ]  # all but padding and what they have
    np.testing.assert_allclose(
        scores[listed], np.take_along_axis(expected, items, axis=1)[listed], rtol=1e-5, atol=1e-7
    )
    assert (scores[listed] < 0).any()


class TestItemRidgeModel(ItemModelLaws):
    @pytest.fixture
    def model(self, tmp_path):
        return fit(tmp_path, random_matrix())
