"""ALS: solved rows against naive float64 solves of the documented objective, and the model's contract."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import checkerboard, missing_item
from models.model_contract import ItemModelContract, close, make_histories
from recsys_spark.models import als
from recsys_spark.models.als import AlsModel, Objective, eigenbasis, gram_of, solve_rows
from recsys_spark.models.histories import Histories

OBJECTIVE = Objective(confidence=0.7, unobserved_weight=0.2, regularization=0.03, regularization_exponent=0.8)
FACTORS = 20


def problem(
    n_rows: int = 60, n_others: int = 90, factors: int = FACTORS, seed: int = 1
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return shuffled rows with none, all, about `factors` and any number of entries, and the other side's vectors."""
    rng = np.random.default_rng(seed)
    edges = [0, 1, factors - 1, factors, factors + 1, n_others]
    lengths = np.minimum([*edges, *rng.integers(0, n_others, n_rows - len(edges))], n_others)
    rows = [np.sort(rng.permutation(n_others)[:n]) for n in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    weights = rng.uniform(0.2, 4, indptr[-1]).astype(np.float32)
    matrix = sp.csr_matrix((weights, np.concatenate(rows), indptr), (n_rows, n_others))
    return matrix[rng.permutation(n_rows)], rng.normal(0, 0.3, (n_others, factors)).astype(np.float32)


def solve(matrix: sp.csr_matrix, others: np.ndarray, objective: Objective = OBJECTIVE):
    """Solve in the eigenbasis of `others`, and return the vectors in their own basis and the minima."""
    spectrum, basis = eigenbasis(gram_of(others))
    vectors, minima = solve_rows(objective, spectrum, others @ basis, matrix.indptr, matrix.indices, matrix.data)
    return vectors @ basis.T, minima


def naive(matrix: sp.csr_matrix, others: np.ndarray, o: Objective = OBJECTIVE) -> np.ndarray:
    """Solve the normal equations of each row in float64."""
    y = others.astype(float)
    vectors = np.zeros((matrix.shape[0], y.shape[1]))
    for row in range(matrix.shape[0]):
        entries = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        if len(entries) == 0:
            continue
        w = 1 + o.confidence * matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].astype(float)
        own = o.regularization * len(entries) ** o.regularization_exponent
        a = o.unobserved_weight * y.T @ y + own * np.eye(y.shape[1])
        for weight, vector in zip(w, y[entries], strict=True):
            a += weight * np.outer(vector, vector)
        vectors[row] = np.linalg.solve(a, w @ y[entries])
    return vectors


def row_objective(
    matrix: sp.csr_matrix, others: np.ndarray, row: int, x: np.ndarray, o: Objective = OBJECTIVE
) -> float:
    """Return the terms of the documented objective that hold x, summed one by one."""
    y = others.astype(float)
    entries = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
    weights = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
    observed = sum((1 + o.confidence * w) * (1 - x @ y[i]) ** 2 for i, w in zip(entries, weights, strict=True))
    everything = o.unobserved_weight * sum((x @ vector) ** 2 for vector in y)
    own = o.regularization * len(entries) ** o.regularization_exponent
    return observed + everything + own * x @ x


def test_rows_equal_naive_solves():
    matrix, others = problem()
    assert {0, 1, FACTORS - 1, FACTORS, FACTORS + 1, 90} <= set(np.diff(matrix.indptr))
    close(solve(matrix, others)[0], naive(matrix, others))


@settings(max_examples=40, deadline=None)
@given(
    factors=st.integers(1, 70),
    n_others=st.integers(1, 120),
    seed=st.integers(0, 99),
    objective=st.builds(
        Objective,
        confidence=st.floats(0.01, 40),
        unobserved_weight=st.floats(0.001, 1),
        regularization=st.floats(0.01, 20),
        regularization_exponent=st.sampled_from([0.0, 0.5, 1.0]),
    ),
)
def test_any_shape_and_objective_equals_naive_solves(factors, n_others, seed, objective):
    matrix, others = problem(20, n_others, factors, seed)
    vectors, minima = solve(matrix, others, objective)
    expected = naive(matrix, others, objective)
    np.testing.assert_allclose(vectors, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max(initial=1e-3))
    least = [row_objective(matrix, others, row, x, objective) for row, x in enumerate(expected)]
    np.testing.assert_allclose(minima, least, rtol=1e-3, atol=1e-4)


@given(st.lists(st.integers(0, 59), max_size=80))
@settings(max_examples=30, deadline=None)
def test_no_bit_of_a_row_depends_on_other_rows(rows):
    matrix, others = problem()
    spectrum, basis = eigenbasis(gram_of(others))
    whole, part = (
        solve_rows(OBJECTIVE, spectrum, others @ basis, m.indptr, m.indices, m.data)
        for m in (matrix, matrix[np.array(rows, int)])
    )
    for expected, result in zip(whole, part, strict=True):
        np.testing.assert_array_equal(result, expected[rows])


def test_columns_of_zeros_change_nothing():
    matrix, others = problem()
    wide = np.concatenate([others, np.zeros((len(others), 100), np.float32)], axis=1)
    close(solve(matrix, wide)[0][:, :FACTORS], solve(matrix, others)[0])


def test_minima_are_the_objective_at_its_minimum():
    matrix, others = problem()
    vectors, minima = solve(matrix, others)
    rng = np.random.default_rng(0)
    for row in range(matrix.shape[0]):
        x = vectors[row].astype(float)
        np.testing.assert_allclose(minima[row], row_objective(matrix, others, row, x), rtol=1e-4, atol=1e-6)
        if x.any():
            assert row_objective(matrix, others, row, x + rng.normal(0, 0.05, FACTORS)) > minima[row]


def test_rows_without_entries_are_zero():
    vectors, minima = solve(sp.csr_matrix((4, 90), dtype=np.float32), problem()[1])
    assert vectors.shape == (4, FACTORS)
    assert not vectors.any()
    assert not minima.any()


@pytest.mark.parametrize("entries", [1, 2, 10, 40])
def test_an_ill_conditioned_system_is_solved(entries):
    others = np.ones((40, FACTORS), np.float32)
    objective = Objective(confidence=1e6, unobserved_weight=1e-9, regularization=1e-9, regularization_exponent=0)
    matrix = sp.csr_matrix(np.arange(40)[None, :] < entries, dtype=np.float32)
    vectors, _ = solve(matrix, others, objective)
    np.testing.assert_allclose(vectors @ others[0], [1.0], rtol=1e-3)


def test_weights_of_very_different_sizes_lose_no_precision():
    # the largest entries of these systems are a million times the smallest
    matrix, others = problem()
    objective = Objective(confidence=1e6, unobserved_weight=0.1, regularization=0.1, regularization_exponent=0)
    close(solve(matrix, others, objective)[0], naive(matrix, others, objective))


def test_gram_is_summed_over_slices(monkeypatch):
    vectors = problem()[1]
    monkeypatch.setattr(als, "_ROWS", 7)
    np.testing.assert_allclose(gram_of(vectors), vectors.T.astype(float) @ vectors, atol=1e-5)


def random_items(n_items: int = 30, factors: int = 8) -> np.ndarray:
    items = np.random.default_rng(4).normal(0, 0.3, (n_items, factors)).astype(np.float32)
    items[0] = 0
    return items


class TestAlsModel(ItemModelContract):
    @pytest.fixture
    def model(self):
        return AlsModel.of(OBJECTIVE, random_items())

    def test_users_without_history_have_the_zero_vector(self, model):
        assert not model.encode(Histories.of([[], [1], []]))[[0, 2]].any()

    def test_scores_equal_naive_solves(self, model):
        histories, items = make_histories(30), random_items()
        shifted = sp.csr_matrix((histories.weights, histories.items - 1, histories.indptr), (len(histories), 29))
        close(model.score_tile(model.encode(histories), 0, 30), naive(shifted, items[1:], OBJECTIVE) @ items.T)

    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_no_bit_of_a_user_depends_on_the_batch(self, model, size):
        histories = make_histories(30)
        parts = [model.encode(batch) for batch in histories.batches(size)]
        np.testing.assert_array_equal(np.concatenate(parts), model.encode(histories))

    @pytest.mark.parametrize("items", [[30], [3, -1]])
    def test_an_unknown_item_is_refused(self, model, items):
        with pytest.raises(ValueError, match="not all in the table of 30 items"):
            model.encode(Histories.of([[1], items]))


def alternate(pairs: list[tuple[int, int]], n_items: int, iterations: int, factors: int = 4) -> AlsModel:
    users, items = np.array(pairs).T
    matrix = sp.csr_matrix((np.ones(len(pairs), np.float32), (users, items)), (users.max() + 1, n_items + 1))
    objective = Objective(confidence=1.0, unobserved_weight=0.1, regularization=0.01, regularization_exponent=1.0)
    y = np.random.default_rng(0).normal(0, 0.1, (n_items + 1, factors)).astype(np.float32)
    y[0] = 0
    for _ in range(iterations):
        x, _ = solve(matrix, y, objective)
        y, _ = solve(matrix.T.tocsr(), x, objective)
    return AlsModel.of(objective, y)


def test_checkerboard_missing_item_comes_first():
    pairs = checkerboard(20, 12)
    model = alternate(pairs, 12, iterations=5)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(20)])
    scores = model.score_tile(model.encode(histories), 0, 13).copy()
    scores[:, 0] = -np.inf
    for user, item in pairs:
        scores[user, item] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 12) for user in range(20)]
