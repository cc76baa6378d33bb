"""The ridge systems against a naive float64 loop, and the factor model's laws."""

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from item_models.laws import ItemModelLaws, close, make_histories
from recsys_spark.item_models import dense
from recsys_spark.item_models.dense import FactorModel, Objective, gram_of, solve_rows
from recsys_spark.item_models.histories import Histories

OBJECTIVE = Objective(confidence=0.7, unobserved_weight=0.2, regularization=0.03, regularization_exponent=0.8)
FACTORS = 8


def world(n_rows: int = 60, n_others: int = 40, seed: int = 1) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows of every length from none to all, shuffled, with weights; and vectors of the other side."""
    rng = np.random.default_rng(seed)
    lengths = [0, n_others, *rng.integers(0, n_others, n_rows - 2)]
    rows = [np.sort(rng.permutation(n_others)[:n]) for n in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    weights = rng.uniform(0.2, 4, indptr[-1]).astype(np.float32)
    matrix = sp.csr_matrix((weights, np.concatenate(rows), indptr), (n_rows, n_others))
    return matrix[rng.permutation(n_rows)], rng.normal(0, 0.3, (n_others, FACTORS)).astype(np.float32)


def solve(matrix: sp.csr_matrix, others: np.ndarray, objective: Objective = OBJECTIVE):
    return solve_rows(
        matrix.indptr, matrix.indices, matrix.data, others, gram_of(others), len(others), objective
    )


def naive(matrix: sp.csr_matrix, others: np.ndarray, o: Objective = OBJECTIVE) -> np.ndarray:
    y = others.astype(float)
    vectors = np.zeros((matrix.shape[0], y.shape[1]))
    for row in range(matrix.shape[0]):
        entries = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        if len(entries) == 0:
            continue
        w = 1 + o.confidence * matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].astype(float)
        ridge = o.regularization * (len(entries) + o.unobserved_weight * len(y)) ** o.regularization_exponent
        a = o.unobserved_weight * y.T @ y + ridge * np.eye(y.shape[1])
        for weight, vector in zip(w, y[entries]):
            a += weight * np.outer(vector, vector)
        vectors[row] = np.linalg.solve(a, w @ y[entries])
    return vectors


def row_objective(
    matrix: sp.csr_matrix, others: np.ndarray, row: int, x: np.ndarray, o: Objective = OBJECTIVE
) -> float:
    """The terms of the documented objective that hold x, one by one."""
    y = others.astype(float)
    entries = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
    weights = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
    observed = sum((1 + o.confidence * w) * (1 - x @ y[i]) ** 2 for i, w in zip(entries, weights))
    everything = o.unobserved_weight * sum((x @ vector) ** 2 for vector in y)
    ridge = o.regularization * (len(entries) + o.unobserved_weight * len(y)) ** o.regularization_exponent
    return observed + everything + ridge * x @ x


def test_rows_equal_naive_solves():
    matrix, others = world()
    assert {0, 1, FACTORS // 2, FACTORS, 40} <= set(np.diff(matrix.indptr)) | {FACTORS, FACTORS // 2}
    close(solve(matrix, others)[0], naive(matrix, others))


@pytest.mark.parametrize("entries", [1, 7, 100])
def test_any_batching_of_entries_gives_the_same_rows(monkeypatch, entries):
    matrix, others = world()
    whole = solve(matrix, others)
    monkeypatch.setattr(dense, "ENTRIES", entries)  # rows of up to 40 entries are cut into pieces
    for expected, found in zip(whole, solve(matrix, others)):
        close(found, expected)


def test_short_and_long_systems_agree():
    matrix, others = world()
    short = matrix[np.flatnonzero((np.diff(matrix.indptr) <= FACTORS // 2) & (np.diff(matrix.indptr) > 0))]
    assert short.shape[0] > 3
    # zero columns leave the problem as it is, but make every row of this world a short one
    wide = np.concatenate([others, np.zeros((len(others), 100), np.float32)], axis=1)
    close(solve(matrix, wide)[0][:, :FACTORS], solve(matrix, others)[0])


def test_losses_are_the_rows_objective_at_its_minimum():
    matrix, others = world()
    vectors, losses = solve(matrix, others)
    rng = np.random.default_rng(0)
    for row in range(matrix.shape[0]):
        x = vectors[row].astype(float)
        np.testing.assert_allclose(losses[row], row_objective(matrix, others, row, x), rtol=1e-4, atol=1e-6)
        if x.any():
            assert row_objective(matrix, others, row, x + rng.normal(0, 0.05, FACTORS)) > losses[row]


def test_rows_without_entries_are_zero():
    empty = sp.csr_matrix((4, 40), dtype=np.float32)
    vectors, losses = solve(empty, world()[1])
    assert vectors.shape == (4, FACTORS)
    assert not vectors.any()
    assert not losses.any()


def test_a_system_too_ill_conditioned_for_float32_is_solved_all_the_same():
    others = np.ones((40, FACTORS), np.float32)
    objective = Objective(
        confidence=1e6, unobserved_weight=1e-9, regularization=1e-9, regularization_exponent=0
    )
    matrix = sp.csr_matrix(np.ones((1, 40), np.float32))
    vectors, _ = solve(matrix, others, objective)
    np.testing.assert_allclose(vectors @ others[0], [1.0], rtol=1e-3)


def test_gram_is_summed_over_slices(monkeypatch):
    vectors = world()[1]
    monkeypatch.setattr(dense, "ENTRIES", 7)
    np.testing.assert_allclose(gram_of(vectors), vectors.T.astype(float) @ vectors, atol=1e-5)


class TestFactorModel(ItemModelLaws):
    @pytest.fixture
    def model(self):
        items = np.random.default_rng(4).normal(0, 0.3, (30, FACTORS)).astype(np.float32)
        items[0] = 0
        parameters = {**vars(OBJECTIVE), "fitted_items": 29}
        return FactorModel(30, parameters, {"items": items, "gram": gram_of(items).astype(np.float32)})

    def test_users_without_history_have_the_zero_vector(self, model):
        assert not model.encode(Histories.of([[], [1], []]))[[0, 2]].any()

    def test_users_equal_naive_solves(self, model):
        histories = make_histories(30)
        items = model.arrays["items"]
        # the padding item is none of the fitted ones, and adds nothing to the Gram matrix
        shifted = sp.csr_matrix(
            (histories.weights, histories.items - 1, histories.indptr), (len(histories), 29)
        )
        close(model.encode(histories), naive(shifted, items[1:]))


def alternate(pairs: list[tuple[int, int]], n_items: int, iterations: int, factors: int = 4) -> FactorModel:
    users, items = np.array(pairs).T
    matrix = sp.csr_matrix((np.ones(len(pairs), np.float32), (users, items)), (users.max() + 1, n_items + 1))
    objective = Objective(
        confidence=1.0, unobserved_weight=0.1, regularization=0.01, regularization_exponent=1.0
    )
    y = np.random.default_rng(0).normal(0, 0.1, (n_items + 1, factors)).astype(np.float32)
    y[0] = 0
    for _ in range(iterations):
        x, _ = solve(matrix, y, objective)
        y, _ = solve(matrix.T.tocsr(), x, objective)
    parameters = {**vars(objective), "fitted_items": n_items}
    return FactorModel(n_items + 1, parameters, {"items": y, "gram": gram_of(y).astype(np.float32)})


def test_checkerboard_missing_item_comes_first():
    pairs = checkerboard(20, 12)
    model = alternate(pairs, 12, iterations=5)
    histories = Histories.of([[i for u, i in pairs if u == user] for user in range(20)])
    scores = model.score_tile(model.encode(histories), 0, 13).copy()
    scores[:, 0] = -np.inf
    for user, item in pairs:
        scores[user, item] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 12) for user in range(20)]
