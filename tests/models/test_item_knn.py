import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from models.model_contract import ItemModelLaws, all_scores, make_histories
from recsys_spark.errors import ContractViolation
from recsys_spark.models.heap import Hidden
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import NeighbourModel


def model_of(table: np.ndarray) -> NeighbourModel:
    csr = sp.csr_matrix(table.astype(np.float32))
    arrays = {
        "indptr": csr.indptr.astype(np.int64),
        "neighbours": csr.indices.astype(np.int32),
        "similarities": csr.data,
    }
    return NeighbourModel(len(table), {}, arrays)


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


def best(scores: np.ndarray, histories: Histories, m: int, banned: np.ndarray) -> list[list[tuple[int, float]]]:
    """The lists by a sort of everything."""
    lists = []
    for user, items in enumerate(np.split(histories.items, histories.indptr[1:-1])):
        allowed = np.setdiff1d(np.flatnonzero(~banned), [0, *items])
        order = allowed[np.lexsort((allowed, -scores[user, allowed]))][:m]
        rows = [(int(i), float(scores[user, i])) for i in order]
        lists.append(rows + [(0, -np.inf)] * (m - len(rows)))
    return lists


def lists(found: tuple[np.ndarray, np.ndarray]) -> list[list[tuple[int, float]]]:
    return [list(zip(items, scores)) for items, scores in zip(found[0].tolist(), found[1].tolist())]


class TestNeighbours(ItemModelLaws):
    @pytest.fixture
    def model(self):
        return model_of(random_table())

    def test_scores_sum_what_each_history_item_says(self, model):
        table = random_table()
        histories = Histories.of([[3, 5], [], [7]], weights=[[9.0, 9.0], [], [9.0]])
        expected = [table[3] + table[5], np.zeros(19), table[7]]
        np.testing.assert_allclose(all_scores(model, histories), expected, rtol=1e-6)

    def test_no_bit_depends_on_batch_tile_or_call(self, model, histories):
        whole = all_scores(model, histories)
        everything = np.tile(np.arange(19, dtype=np.int32), (len(histories), 1))
        np.testing.assert_array_equal(model.score_items(model.encode(histories), everything), whole)
        for size in (1, 4):
            encoded = [model.encode(batch) for batch in histories.batches(size)]
            for lo, hi in ((0, 1), (1, 8), (8, 19)):
                tile = np.concatenate([model.score_tile(e, lo, hi) for e in encoded])
                np.testing.assert_array_equal(tile, whole[:, lo:hi])

    def test_a_sum_is_rounded_once(self):
        table = np.zeros((5, 5))
        table[1:4, 4] = 1, 2**-24, 2**-24  # each small one alone is lost beside 1 in float32
        histories = Histories.of([[1, 2, 3], [2, 3, 1]])
        assert all_scores(model_of(table), histories)[:, 4].tolist() == [1 + 2**-23] * 2

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

    @pytest.mark.parametrize("m", [1, 5, 18, 40])
    def test_lists_equal_a_sort_of_everything(self, model, histories, m):
        banned = np.zeros(19, bool)
        banned[[0, 4, 9]] = True
        found = model.top(model.encode(histories), Hidden(banned, histories), m)
        assert (found[0].dtype, found[1].dtype) == (np.int32, np.float32)
        assert lists(found) == best(all_scores(model, histories), histories, m, banned)

    def test_lists_do_not_depend_on_the_batch(self, model, histories):
        nothing = np.zeros(19, bool)
        whole = lists(model.top(model.encode(histories), Hidden(nothing, histories), 7))
        parts = [lists(model.top(model.encode(batch), Hidden(nothing, batch), 7)) for batch in histories.batches(4)]
        assert [row for part in parts for row in part] == whole


@settings(deadline=None, max_examples=80)
@given(
    cells=st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.sampled_from([0.25, 0.5, 1.0, 1e-45])), max_size=40
    ),
    chosen=st.lists(
        st.permutations(range(1, 9)).flatmap(lambda p: st.integers(0, 8).map(lambda n: p[:n])),
        min_size=1,
        max_size=6,
    ),
    banned=st.sets(st.integers(1, 8)),
    m=st.integers(1, 10),
)
def test_lists_with_ties_strangers_and_bans_equal_a_sort(cells, chosen, banned, m):
    table = np.zeros((9, 9))
    for j, i, value in cells:
        table[j, i] = value
    model, histories = model_of(table), Histories.of(chosen)
    marks = np.isin(np.arange(9), list(banned))
    scores = all_scores(model, histories)
    np.testing.assert_array_equal(scores, oracle(table, histories))
    assert lists(model.top(model.encode(histories), Hidden(marks, histories), m)) == best(scores, histories, m, marks)


def test_a_nan_is_refused_where_somebody_meets_it():
    table = random_table()
    table[3, 4] = np.nan
    model = model_of(table)
    for histories, n in ((Histories.of([[3], [5], [3, 4]]), 1), (Histories.of([[5], [3, 4]]), 0)):
        hidden = Hidden(np.zeros(19, bool), histories)
        if n:
            with pytest.raises(ContractViolation, match="NaN scores to 1 of 3 users"):
                model.top(model.encode(histories), hidden, 3)
        else:  # the second has chosen item 4
            assert np.isfinite(model.top(model.encode(histories), hidden, 3)[1]).all()


class TestWithoutNeighbours(ItemModelLaws):
    @pytest.fixture
    def model(self):
        return model_of(np.zeros((5, 5)))

    def test_scores_tell_items_apart(self, model, histories):
        assert not all_scores(model, histories).any()


def test_histories_of_the_laws_fit_the_oracle():
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
