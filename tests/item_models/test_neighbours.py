import numpy as np
import pytest
import scipy.sparse as sp

from item_models.laws import ItemModelLaws, all_scores, make_histories
from recsys_spark.item_models import neighbours
from recsys_spark.item_models.histories import Histories
from recsys_spark.item_models.neighbours import NeighbourModel


def model_of(table: np.ndarray) -> NeighbourModel:
    csr = sp.csr_matrix(table.astype(np.float32))
    arrays = {
        "indptr": csr.indptr.astype(np.int64),
        "neighbours": csr.indices.astype(np.int32),
        "similarities": csr.data,
    }
    return NeighbourModel(len(table), {}, arrays)


def random_table(n_items: int = 19) -> np.ndarray:
    rng = np.random.default_rng(2)
    table = rng.random((n_items, n_items)) * (rng.random((n_items, n_items)) < 0.4)
    table[0] = table[:, 0] = 0
    np.fill_diagonal(table, 0)
    return table


class TestDense(ItemModelLaws):
    @pytest.fixture
    def model(self):
        return model_of(random_table())

    def test_scores_sum_what_each_history_item_says(self, model):
        table = random_table()
        histories = Histories.of([[3, 5], [], [7]], weights=[[9.0, 9.0], [], [9.0]])
        expected = [table[3] + table[5], np.zeros(19), table[7]]
        np.testing.assert_allclose(all_scores(model, histories), expected, rtol=1e-6)

    def test_the_table_shares_the_arrays(self, model):
        assert np.shares_memory(model.table.data, model.arrays["similarities"])
        assert np.shares_memory(model.table.indices, model.arrays["neighbours"])


class TestByColumns(ItemModelLaws):
    @pytest.fixture(autouse=True)
    def _no_dense_scores(self, monkeypatch):
        monkeypatch.setattr(neighbours, "DENSE_CELLS", 0)

    @pytest.fixture
    def model(self):
        return model_of(random_table())

    def test_sparse_scores_equal_dense_ones(self, model, monkeypatch):
        histories = make_histories(19)
        sparse = all_scores(model, histories)
        assert sp.issparse(model.encode(histories))
        monkeypatch.setattr(neighbours, "DENSE_CELLS", 1 << 20)
        np.testing.assert_array_equal(sparse, all_scores(model, histories))


class TestWithoutNeighbours(ItemModelLaws):
    @pytest.fixture
    def model(self):
        return model_of(np.zeros((5, 5)))

    def test_scores_tell_items_apart(self, model, histories):
        assert not all_scores(model, histories).any()
