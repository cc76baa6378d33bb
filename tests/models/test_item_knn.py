import numpy as np
import pytest
import scipy.sparse as sp

from models.model_contract import ItemModelContract, all_scores, make_histories
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemKnnModel


def model_of(table: np.ndarray) -> ItemKnnModel:
    csr = sp.csr_matrix(table.astype(np.float32))
    arrays = {
        "indptr": csr.indptr.astype(np.int64),
        "neighbours": csr.indices.astype(np.int32),
        "similarities": csr.data,
    }
    return ItemKnnModel(len(table), {}, arrays)


def random_table(n_items: int = 19, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = rng.random((n_items, n_items)) * (rng.random((n_items, n_items)) < 0.4)
    table[0] = table[:, 0] = 0
    np.fill_diagonal(table, 0)
    return table


def oracle(table: np.ndarray, histories: Histories) -> np.ndarray:
    """float32 [B, I]: the dense product, in float64."""
    chosen = np.zeros((len(histories), len(table)))
    for user, items in enumerate(np.split(histories.items, histories.indptr[1:-1])):
        chosen[user, items] = 1
    return (chosen @ table.astype(np.float32).astype(np.float64)).astype(np.float32)


class TestNeighbours(ItemModelContract):
    @pytest.fixture
    def model(self):
        return model_of(random_table())

    def test_scores_sum_what_each_history_item_says(self, model):
        table = random_table()
        histories = Histories.of([[3, 5], [], [7]], weights=[[9.0, 9.0], [], [9.0]])
        expected = [table[3] + table[5], np.zeros(19), table[7]]
        np.testing.assert_allclose(all_scores(model, histories), expected, rtol=1e-6)

    def test_a_candidate_may_stand_there_twice(self, model):
        histories = Histories.of([[3, 5], [3]])
        found = model.score_items(model.encode(histories), np.array([[4, 0, 4, 0], [0, 0, 4, 4]], np.int32))
        whole = all_scores(model, histories)
        np.testing.assert_array_equal(found, np.take_along_axis(whole, np.array([[4, 0, 4, 0], [0, 0, 4, 4]]), 1))

    @pytest.mark.parametrize("items", [[19], [3, -1]])
    def test_an_item_without_a_row_is_refused(self, model, items):
        with pytest.raises(ValueError, match="not all in the table of 19 items"):
            model.encode(Histories.of([[1], items]))
        with pytest.raises(ValueError, match="not all in the table of 19 items"):
            model.score_items(model.encode(Histories.of([[1]])), np.array([items]))


class TestWithoutNeighbours(ItemModelContract):
    @pytest.fixture
    def model(self):
        return model_of(np.zeros((5, 5)))

    def test_scores_tell_items_apart(self, model, histories):
        assert not all_scores(model, histories).any()


def test_scores_equal_the_dense_product():
    histories = make_histories(19)
    np.testing.assert_allclose(
        all_scores(model_of(random_table()), histories), oracle(random_table(), histories), rtol=1e-6
    )


def test_nearest_are_the_largest_of_a_row_and_of_equals_the_lower_item():
    table = np.zeros((5, 5))
    table[1, [2, 3, 4]] = 0.5, 0.75, 0.5
    table[3, 1] = 0.25
    items, similarities = model_of(table).nearest(2)
    assert items.tolist() == [[0, 0], [3, 2], [0, 0], [1, 0], [0, 0]]
    assert similarities.tolist() == [[0, 0], [0.75, 0.5], [0, 0], [0.25, 0], [0, 0]]
