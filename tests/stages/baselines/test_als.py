"""The fit of ALS: the documented objective, term by term, and that ranges and tasks change nothing."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from recsys_spark.models.als import AlsModel, Objective
from recsys_spark.stages.baselines import als
from stages.baselines.local import Tasks, checkerboard_matrix, histories_of, put_pairs, random_matrix

OBJECTIVE = Objective(confidence=0.8, unobserved_weight=0.3, regularization=0.02, regularization_exponent=0.7)


def fit(folder, matrix, *, parts=3, factors=6, iterations=4, objective=OBJECTIVE, seed=7, start=None):
    pairs = put_pairs(folder / "pairs", matrix, parts)
    sizes = {"factors": factors, "iterations": iterations, "seed": seed}
    return als.fit_pairs(Tasks(), pairs, folder / "als", objective=objective, start=start, **sizes)


def scores_of(model: AlsModel, matrix: sp.csr_matrix | None = None) -> np.ndarray:
    """Return the scores of the users of `matrix`. They do not depend on the basis of the vectors."""
    return np.array(
        model.score_tile(model.encode(histories_of(random_matrix() if matrix is None else matrix)), 0, model.n_items)
    )


def inner_products(model: AlsModel) -> np.ndarray:
    items = model.arrays["items"].astype(float)
    return items @ items.T


def written_out(matrix: sp.csr_matrix, x: np.ndarray, y: np.ndarray, o: Objective) -> float:
    """Return the objective of the docstring, pair by pair. `x` and `y` are in one basis."""
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
    squares = (n**nu * v @ v for n, v in [*zip(users, x, strict=True), *zip(items, y, strict=True)])
    return total + o.regularization * sum(squares)


def test_the_objective_is_the_documented_one_and_falls(tmp_path, monkeypatch):
    solved = {}

    def keep_basis(folder, name, starts, dtype, columns, transform):
        whole = np.concatenate([np.fromfile(folder / f"{name}-{start}", np.float32) for start in starts])
        solved[name] = whole.reshape(-1, columns)
        solved[f"{name} rotated"] = join(folder, name, starts, dtype, columns, transform)

    join = als.join
    monkeypatch.setattr(als, "join", keep_basis)
    matrix = random_matrix()
    _, objectives = fit(tmp_path, matrix, iterations=6)
    # the last half-step solved the items in the basis of the rotated users
    expected = written_out(matrix, solved["users rotated"].astype(float), solved["items"].astype(float), OBJECTIVE)
    np.testing.assert_allclose(objectives[-1], expected, rtol=1e-5)
    assert all(after < before for before, after in pairwise(objectives))
    gram = solved["items rotated"].T.astype(float) @ solved["items rotated"]
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-5 * gram.max())


@pytest.mark.parametrize("cores, parts", [(1, 3), (3, 7), (5, 7), (9, 2), (20, 17)])
def test_any_number_of_cores_and_parts_gives_the_same_scores(tmp_path, monkeypatch, cores, parts):
    model, objectives = fit(tmp_path / "a", random_matrix())
    monkeypatch.setattr(Tasks, "defaultParallelism", cores)
    monkeypatch.setattr(als, "_NUMBERS", 6 * cores)  # some rows at a time
    other, other_objectives = fit(tmp_path / "b", random_matrix(), parts=parts)
    np.testing.assert_allclose(scores_of(other), scores_of(model), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other.arrays["spectrum"], model.arrays["spectrum"], rtol=1e-4)
    np.testing.assert_allclose(other_objectives, objectives, rtol=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    first, again, other = (
        fit(tmp_path / name, random_matrix(), seed=seed)[0] for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    np.testing.assert_array_equal(first.arrays["items"], again.arrays["items"])
    assert np.abs(inner_products(first) - inner_products(other)).max() > 1e-3


def test_items_without_pairs_have_the_zero_vector_from_the_start(tmp_path):
    model, _ = fit(tmp_path, random_matrix(), iterations=1)
    assert not model.arrays["items"][[0, 5]].any()
    assert model.arrays["items"][[1, 2, 3, 4, 6]].any(axis=1).all()
    # ten times as many items, none of the new ones with pairs, are the same problem
    wide = sp.hstack([random_matrix(), sp.csr_matrix((50, 270), dtype=np.float32)]).tocsr()
    assert fit(tmp_path / "wide", wide, iterations=8)[1][-1] == pytest.approx(
        fit(tmp_path / "narrow", random_matrix(), iterations=8)[1][-1], rel=0.02
    )


def test_folding_in_a_training_user_equals_a_half_step_of_the_users(tmp_path):
    matrix = random_matrix()
    model, _ = fit(tmp_path, matrix)
    pairs = put_pairs(tmp_path / "again", matrix, 3)
    als.solve_range(pairs, tmp_path / "als", OBJECTIVE, "users", model.arrays["spectrum"], (0, matrix.shape[0]))
    expected = np.fromfile(tmp_path / "als" / "users-0", np.float32).reshape(matrix.shape[0], 6)
    np.testing.assert_allclose(model.encode(histories_of(matrix)), expected, rtol=1e-3, atol=1e-3)
    items = model.arrays["items"]
    np.testing.assert_allclose(np.diag(model.arrays["spectrum"]), items.T @ items, rtol=1e-4, atol=1e-4)


def test_checkerboard_missing_item_comes_first(tmp_path):
    matrix = checkerboard_matrix(checkerboard(24, 14), 14)
    objective = Objective(confidence=1.0, unobserved_weight=0.1, regularization=0.01, regularization_exponent=1.0)
    model, _ = fit(tmp_path, matrix, factors=4, iterations=6, objective=objective)
    scores = scores_of(model, matrix)
    scores[:, 0] = -np.inf
    scores[matrix.nonzero()] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 14) for user in range(24)]


def test_no_pairs_at_all(tmp_path):
    model, objectives = fit(tmp_path, sp.csr_matrix((4, 5), dtype=np.float32))
    assert not model.arrays["items"].any()
    assert objectives == [0.0] * 4


def test_a_fit_continues_an_earlier_one(tmp_path):
    whole = fit(tmp_path / "whole", random_matrix(), iterations=5)
    half = fit(tmp_path / "half", random_matrix(), iterations=3)
    rest = fit(tmp_path / "rest", random_matrix(), iterations=2, start=half[0].arrays["items"], seed=8, parts=2)
    np.testing.assert_allclose([*half[1], *rest[1]], whole[1], rtol=1e-4)
    np.testing.assert_allclose(scores_of(rest[0]), scores_of(whole[0]), rtol=1e-2, atol=1e-3)


def test_items_that_the_earlier_fit_did_not_have_start_at_random(tmp_path):
    matrix = random_matrix()
    pairs = put_pairs(tmp_path / "pairs", matrix, 3)
    fresh = als._first_items(pairs, 6, 7, None)
    start = np.ones((20, 6), np.float32)
    start[[0, 2, 5]] = 0  # padding, an item without pairs in the earlier fit, and one that still has none
    items = als._first_items(pairs, 6, 7, start)
    continued = [1, 3, 4, *range(6, 20)]
    np.testing.assert_array_equal(items[continued], 1)
    np.testing.assert_array_equal(np.delete(items, continued, axis=0), np.delete(fresh, continued, axis=0))
    assert items[2].any()
    assert not items[[0, 5]].any()
    # an earlier fit with more items than today: the log has lost some
    assert als._first_items(pairs, 6, 7, np.ones((99, 6), np.float32)).shape == fresh.shape
