"""The ridge systems against naive float64 solves of the documented objective."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from models.model_contract import close
from recsys_spark.models import ridge
from recsys_spark.models.llvm import LANES
from recsys_spark.models.ridge import Objective, System, gram_of, solve_rows
from recsys_spark.models.ridge_kernels import renumber

OBJECTIVE = Objective(confidence=0.7, unobserved_weight=0.2, regularization=0.03, regularization_exponent=0.8)
FACTORS = 20  # no whole number of lanes


def world(
    n_rows: int = 60, n_others: int = 90, factors: int = FACTORS, seed: int = 1
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Rows of none, all, about the factors and any number of entries, shuffled, with weights; and vectors of the other side."""
    rng = np.random.default_rng(seed)
    edges = [0, 1, LANES - 1, LANES, LANES + 1, factors, factors + 1, 2 * LANES, n_others]
    lengths = np.minimum([*edges, *rng.integers(0, n_others, n_rows - len(edges))], n_others)
    rows = [np.sort(rng.permutation(n_others)[:n]) for n in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    weights = rng.uniform(0.2, 4, indptr[-1]).astype(np.float32)
    matrix = sp.csr_matrix((weights, np.concatenate(rows), indptr), (n_rows, n_others))
    return matrix[rng.permutation(n_rows)], rng.normal(0, 0.3, (n_others, factors)).astype(np.float32)


def solve(matrix: sp.csr_matrix, others: np.ndarray, objective: Objective = OBJECTIVE):
    system = System.of(objective, gram_of(others))
    return solve_rows(matrix.indptr, matrix.indices, matrix.data, others, system)


def naive(matrix: sp.csr_matrix, others: np.ndarray, o: Objective = OBJECTIVE) -> np.ndarray:
    y = others.astype(float)
    vectors = np.zeros((matrix.shape[0], y.shape[1]))
    for row in range(matrix.shape[0]):
        entries = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        if len(entries) == 0:
            continue
        w = 1 + o.confidence * matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].astype(float)
        own = o.regularization * len(entries) ** o.regularization_exponent
        a = o.unobserved_weight * y.T @ y + own * np.eye(y.shape[1])
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
    own = o.regularization * len(entries) ** o.regularization_exponent
    return observed + everything + own * x @ x


def test_rows_equal_naive_solves():
    matrix, others = world()
    assert {0, 1, 15, 16, 17, FACTORS, FACTORS + 1, 32, 90} <= set(np.diff(matrix.indptr))
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
    matrix, others = world(20, n_others, factors, seed)
    vectors, losses = solve(matrix, others, objective)
    expected = naive(matrix, others, objective)
    np.testing.assert_allclose(vectors, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max(initial=1e-3))
    minima = [row_objective(matrix, others, row, x, objective) for row, x in enumerate(expected)]
    np.testing.assert_allclose(losses, minima, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("entries", [1, 7, 100])
def test_any_batching_of_entries_gives_the_same_rows(monkeypatch, entries):
    matrix, others = world()
    whole = solve(matrix, others)
    monkeypatch.setattr(ridge, "ENTRIES", entries)  # rows of up to 90 entries are cut into pieces
    for expected, found in zip(whole, solve(matrix, others)):
        close(found, expected)


@given(st.lists(st.integers(0, 59), max_size=80))
@settings(max_examples=30, deadline=None)
def test_a_row_is_the_same_bits_in_any_company(rows):
    matrix, others = world()
    whole, part = solve(matrix, others), solve(matrix[np.array(rows, int)], others)
    for expected, found in zip(whole, part):
        np.testing.assert_array_equal(found, expected[rows])


def test_short_and_long_systems_agree():
    matrix, others = world()
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
    vectors, losses = solve(sp.csr_matrix((4, 90), dtype=np.float32), world()[1])
    assert vectors.shape == (4, FACTORS)
    assert not vectors.any()
    assert not losses.any()


@pytest.mark.parametrize("entries", [1, 2, 10, 40])
@pytest.mark.parametrize("at_a_time", [ridge.ENTRIES, 7])
def test_a_system_too_ill_conditioned_for_float32_is_solved_all_the_same(monkeypatch, entries, at_a_time):
    monkeypatch.setattr(ridge, "ENTRIES", at_a_time)
    others = np.ones((40, FACTORS), np.float32)
    objective = Objective(confidence=1e6, unobserved_weight=1e-9, regularization=1e-9, regularization_exponent=0)
    matrix = sp.csr_matrix(np.arange(40)[None, :] < entries, dtype=np.float32)
    vectors, _ = solve(matrix, others, objective)
    np.testing.assert_allclose(vectors @ others[0], [1.0], rtol=1e-3)


def test_steep_weights_lose_no_precision():
    # the largest entries of these systems are a million times the smallest, within float32 but not as a square
    matrix, others = world()
    objective = Objective(confidence=1e6, unobserved_weight=0.1, regularization=0.1, regularization_exponent=0)
    close(solve(matrix, others, objective)[0], naive(matrix, others, objective))


def test_gram_is_summed_over_slices(monkeypatch):
    vectors = world()[1]
    monkeypatch.setattr(ridge, "ENTRIES", 7)
    np.testing.assert_allclose(gram_of(vectors), vectors.T.astype(float) @ vectors, atol=1e-5)


@given(st.lists(st.sampled_from([0, 1, 2, 8, 1 << 20, (1 << 20) + 1, 1 << 40, 1 << 62]), max_size=50))
@settings(max_examples=50, deadline=None)
def test_indices_are_numbered_in_the_order_they_are_met(indices):
    indices = np.array(indices, np.int64)
    at, found = np.empty(len(indices), np.int64), np.empty(len(indices), np.int64)
    count = renumber(indices, at, found, np.full(64, -1))
    assert found[:count].tolist() == list(dict.fromkeys(indices.tolist()))
    np.testing.assert_array_equal(found[at], indices)
