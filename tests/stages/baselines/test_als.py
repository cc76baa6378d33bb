"""ALS over blocks: the documented objective, term by term, and that blocks change nothing."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from recsys_spark.models.histories import Histories
from recsys_spark.models.ridge import Objective, System, gram_of
from recsys_spark.stages.baselines import als
from stages.baselines.local import Tasks, checkerboard_matrix, put_pairs, random_matrix

OBJECTIVE = Objective(confidence=0.8, unobserved_weight=0.3, regularization=0.02, regularization_exponent=0.7)


def fit(folder, matrix, *, blocks=3, factors=6, iterations=4, objective=OBJECTIVE, seed=7, start=None):
    pairs = put_pairs(folder / "pairs", matrix, blocks)
    sizes = {"factors": factors, "iterations": iterations, "seed": seed}
    return als.fit(Tasks(), pairs, folder / "als", objective=objective, start=start, **sizes)


def histories_of(matrix: sp.csr_matrix) -> Histories:
    matrix.sort_indices()
    zeros = np.zeros(matrix.nnz, np.int64)
    return Histories(matrix.indptr.astype(np.int64), matrix.indices, zeros, matrix.data, [None] * matrix.shape[0])


def last_users(folder, blocks: int, n_users: int) -> np.ndarray:
    """The users' vectors that the fit left in its folder."""
    parts = [np.load(folder / "als" / f"users-{block}.npy") for block in range(blocks)]
    users = np.empty((n_users, parts[0].shape[1]))
    for block, part in enumerate(parts):
        users[block::blocks] = part
    return users


def written_out(matrix: sp.csr_matrix, x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    """The objective of the docstring, pair by pair."""
    dense = matrix.toarray()
    users, items = (dense > 0).sum(axis=1), (dense > 0).sum(axis=0)
    total = 0.0
    for u, row in enumerate(dense):
        for i, weight in enumerate(row):
            score = float(x[u] @ y[i])
            total += o.unobserved_weight * score**2
            if weight > 0:
                total += (1 + o.confidence * weight) * (1 - score) ** 2
    nu = o.regularization_exponent
    squares = (n**nu * v @ v for n, v in [*zip(users, x), *zip(items, y)])
    return total + o.regularization * sum(squares)


def test_the_objective_is_the_documented_one_and_falls(tmp_path):
    matrix = random_matrix()
    model, objectives = fit(tmp_path, matrix, iterations=6)
    x = last_users(tmp_path, 3, matrix.shape[0])
    expected = written_out(matrix, x, model.arrays["items"].astype(float), OBJECTIVE)
    np.testing.assert_allclose(objectives[-1], expected, rtol=1e-5)
    assert all(after < before for before, after in pairwise(objectives))


@pytest.mark.parametrize("blocks", [1, 2, 17])
def test_any_number_of_tasks_gives_the_same_model(tmp_path, blocks):
    one, other = (
        fit(tmp_path / "a", random_matrix(), blocks=3),
        fit(tmp_path / "b", random_matrix(), blocks=blocks),
    )
    for name in ("items", "gram"):
        np.testing.assert_allclose(other[0].arrays[name], one[0].arrays[name], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other[1], one[1], rtol=1e-5)


@pytest.mark.parametrize("cores", [1, 3, 5])
def test_any_number_of_cores_gives_the_same_model(tmp_path, monkeypatch, cores):
    one = fit(tmp_path / "a", random_matrix(), blocks=7)
    monkeypatch.setattr(Tasks, "defaultParallelism", cores)
    other = fit(tmp_path / "b", random_matrix(), blocks=7)
    for name in ("items", "gram"):
        np.testing.assert_allclose(other[0].arrays[name], one[0].arrays[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other[1], one[1], rtol=1e-9)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    first, again, other = (
        fit(tmp_path / name, random_matrix(), seed=seed)[0].arrays["items"]
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_items_without_pairs_have_the_zero_vector_from_the_start(tmp_path):
    model, _ = fit(tmp_path, random_matrix(), iterations=1)
    assert not model.arrays["items"][[0, 5]].any()
    assert model.arrays["items"][[1, 2, 3, 4, 6]].any(axis=1).all()
    # a catalogue of ten times the size, of which nobody chose anything new, is the same problem
    wide = sp.hstack([random_matrix(), sp.csr_matrix((50, 270), dtype=np.float32)]).tocsr()
    assert fit(tmp_path / "wide", wide, iterations=8)[1][-1] == pytest.approx(
        fit(tmp_path / "narrow", random_matrix(), iterations=8)[1][-1], rel=0.02
    )


def test_folding_in_a_training_user_is_the_users_half_step(tmp_path):
    matrix = random_matrix()
    model, _ = fit(tmp_path, matrix, blocks=3)
    items, gram = model.arrays["items"], gram_of(model.arrays["items"])
    pairs = put_pairs(tmp_path / "again", matrix, 3)
    system = System.of(OBJECTIVE, gram)
    als.solve_blocks(pairs, tmp_path / "als", "users", "items", system, range(3))
    expected = last_users(tmp_path, 3, matrix.shape[0])
    np.testing.assert_allclose(model.encode(histories_of(matrix)), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.arrays["gram"], items.T @ items, rtol=1e-4, atol=1e-4)


def test_checkerboard_missing_item_comes_first(tmp_path):
    matrix = checkerboard_matrix(checkerboard(24, 14), 14)
    objective = Objective(confidence=1.0, unobserved_weight=0.1, regularization=0.01, regularization_exponent=1.0)
    model, _ = fit(tmp_path, matrix, factors=4, iterations=6, objective=objective)
    scores = np.array(model.score_tile(model.encode(histories_of(matrix)), 0, 15))
    scores[:, 0] = -np.inf
    scores[matrix.nonzero()] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 14) for user in range(24)]


def test_no_pairs_at_all(tmp_path):
    model, objectives = fit(tmp_path, sp.csr_matrix((4, 5), dtype=np.float32))
    assert not model.arrays["items"].any()
    assert objectives == [0.0] * 4


def test_a_fit_goes_on_from_where_an_earlier_one_ended(tmp_path):
    whole = fit(tmp_path / "whole", random_matrix(), iterations=5)
    half = fit(tmp_path / "half", random_matrix(), iterations=3)
    rest = fit(tmp_path / "rest", random_matrix(), iterations=2, start=half[0].arrays["items"], seed=8, blocks=2)
    np.testing.assert_allclose([*half[1], *rest[1]], whole[1], rtol=1e-4)
    np.testing.assert_allclose(rest[0].arrays["items"], whole[0].arrays["items"], rtol=1e-2, atol=1e-3)


def test_items_that_the_earlier_fit_did_not_know_start_like_any(tmp_path):
    matrix = random_matrix()
    pairs = put_pairs(tmp_path / "pairs", matrix, 3)
    fresh = als._first_items(pairs, 6, 7, None)
    start = np.ones((20, 6), np.float32)
    start[[0, 2, 5]] = 0  # padding, an item without pairs at the time, one that has none yet
    items = als._first_items(pairs, 6, 7, start)
    known = [1, 3, 4, *range(6, 20)]
    np.testing.assert_array_equal(items[known], 1)
    np.testing.assert_array_equal(np.delete(items, known, axis=0), np.delete(fresh, known, axis=0))
    assert items[2].any()
    assert not items[[0, 5]].any()
    # more items than there are today: those of a log that has lost some
    assert als._first_items(pairs, 6, 7, np.ones((99, 6), np.float32)).shape == fresh.shape
