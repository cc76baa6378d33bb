"""SVD against numpy's singular vectors and the formulas of the papers. Parts and tasks change nothing."""

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from models.model_contract import ItemModelContract, all_scores, make_histories
from recsys_spark.models.histories import Histories
from recsys_spark.models.svd import SvdModel
from recsys_spark.stages.baselines import svd
from stages.baselines.local import Tasks, checkerboard_matrix, put_pairs, random_matrix

FULL = {"user_power": 0.5, "item_power": 0.3, "singular_power": 1.0, "target_power": 0.15}
PURE = {"user_power": 0.0, "item_power": 0.0, "singular_power": 0.0, "target_power": 0.0}
GF_CF = {"user_power": 0.5, "item_power": 0.5, "singular_power": 0.0, "target_power": 0.5}


def fit(folder, matrix, *, parts=3, factors=6, **powers) -> SvdModel:
    pairs = put_pairs(folder / "pairs", matrix, parts)
    return svd.fit_pairs(Tasks(), pairs, folder / "svd", factors=factors, **{**FULL, **powers})


def degrees_of(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    chosen = matrix.toarray() > 0
    return np.maximum(chosen.sum(axis=1), 1.0), np.maximum(chosen.sum(axis=0), 1.0)


def right_vectors(matrix: sp.csr_matrix, user_power: float, item_power: float, factors: int):
    """Return V float64 [I, F] and sigma of the normalised matrix, by numpy."""
    users, items = degrees_of(matrix)
    normalised = (matrix.toarray() > 0) * users[:, None] ** -user_power * items**-item_power
    _, sigma, rows = np.linalg.svd(normalised)
    return rows[:factors].T, sigma[:factors]


def naive(matrix: sp.csr_matrix, lists: list[list[int]], factors: int, **powers: float) -> np.ndarray:
    """Return float64 [B, I] by the formula of the docstring."""
    p = {**FULL, **powers}
    vectors, sigma = right_vectors(matrix, p["user_power"], p["item_power"], factors)
    _, items = degrees_of(matrix)
    x = np.array([np.isin(np.arange(len(items)), row) for row in lists], float)
    filtered = (x * items ** -p["item_power"]) @ vectors * sigma ** p["singular_power"] @ vectors.T
    return filtered * items ** p["target_power"]


def lists_of(matrix: sp.csr_matrix) -> list[list[int]]:
    """Return histories of users of the fit and of others. Item 5 has no users in `random_matrix`."""
    own = [matrix[user].indices.tolist() for user in range(6)]
    return [*own, [7, 5, 12], [29], [5], []]


@pytest.mark.parametrize("powers", [FULL, PURE, GF_CF, {**FULL, "singular_power": 0.5}])
@pytest.mark.parametrize("factors", [1, 6, 20])
def test_equals_the_formula_with_numpy_s_vectors(tmp_path, powers, factors):
    matrix = random_matrix()
    model, lists = fit(tmp_path, matrix, factors=factors, **powers), lists_of(random_matrix())
    expected = naive(matrix, lists, factors, **powers)
    scores = all_scores(model, Histories.of(lists))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_equals_the_ideal_low_pass_filter_of_gf_cf(tmp_path):
    matrix = random_matrix()
    users, items = degrees_of(matrix)
    r = (matrix.toarray() > 0).astype(float)
    normalised = np.diag(users**-0.5) @ r @ np.diag(items**-0.5)
    top = np.linalg.eigh(normalised.T @ normalised)[1][:, -6:]
    expected = r @ np.diag(items**-0.5) @ top @ top.T @ np.diag(items**0.5)
    model = fit(tmp_path, matrix, **GF_CF)
    scores = all_scores(model, Histories.of([matrix[user].indices.tolist() for user in range(50)]))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


def test_the_arrays_hold_orthonormal_vectors_and_falling_values(tmp_path):
    matrix = random_matrix()
    model = fit(tmp_path, matrix)
    _, items = degrees_of(matrix)
    vectors, sigma = right_vectors(matrix, 0.5, 0.3, 6)
    fitted = model.arrays["items"] * items[:, None] ** -0.15
    np.testing.assert_allclose(fitted.T @ fitted, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(np.abs(fitted.T @ vectors), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(model.arrays["spectrum"], sigma, rtol=1e-5)
    np.testing.assert_allclose(model.arrays["weights"], items**-0.45, rtol=1e-12)
    largest = np.abs(fitted).argmax(axis=0)
    assert (fitted[largest, range(6)] > 0).all()


def test_iteration_finds_the_first_of_many_vectors(tmp_path, monkeypatch):
    # six groups of users with preferences of different strength, and noise
    rng = np.random.default_rng(3)
    taste = rng.integers(0, 6, 400)
    likes = np.arange(241) % 6 == taste[:, None]
    chosen = rng.random((400, 241)) < np.where(likes, 0.5 - taste[:, None] * 0.05, 0.01)
    chosen[:, 0] = False
    matrix = sp.csr_matrix(chosen.astype(np.float32))
    monkeypatch.setattr(svd, "OVERSAMPLING", 6)
    model = fit(tmp_path, matrix, factors=6)
    _, sigma = right_vectors(matrix, 0.5, 0.3, 6)
    np.testing.assert_allclose(model.arrays["spectrum"], sigma, rtol=1e-5)
    monkeypatch.setattr(svd, "PASSES", 0)
    once = fit(tmp_path / "once", matrix, factors=6)
    assert (once.arrays["spectrum"] < sigma * (1 - 1e-3)).any()
    # without passes the values still belong to the vectors, and N keeps these orthogonal
    users, items = degrees_of(matrix)
    moved = (chosen * users[:, None] ** -0.5 * items**-0.3) @ (once.arrays["items"] * items[:, None] ** -0.15)
    np.testing.assert_allclose(moved.T @ moved, np.diag(once.arrays["spectrum"] ** 2), atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 17])
@pytest.mark.parametrize("rows", [3, 4096])
def test_any_number_of_tasks_and_rows_at_a_time_gives_the_same_model(tmp_path, monkeypatch, parts, rows):
    expected = fit(tmp_path / "a", random_matrix())
    monkeypatch.setattr(svd, "ROWS", rows)
    other = fit(tmp_path / "b", random_matrix(), parts=parts)
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(other.arrays[name], array, rtol=1e-4, atol=1e-5)


def test_a_second_fit_gives_the_same_bytes(tmp_path):
    first, again = (fit(tmp_path / name, random_matrix()).arrays for name in "ab")
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_there_are_no_more_factors_than_the_rank(tmp_path):
    # three groups of items, and each user has one, two or three whole groups: rank 3 for any degrees
    groups = np.repeat(np.eye(3), [7, 4, 6], axis=1)
    mixes = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])
    block = np.repeat(mixes @ groups, [5, 3, 9, 4, 2, 7], axis=0)
    matrix = sp.csr_matrix(np.hstack([np.zeros((30, 1)), block]).astype(np.float32))
    model = fit(tmp_path, matrix, factors=9)
    assert model.arrays["items"].shape == (18, 3)
    expected = naive(matrix, [[1], [17]], 3)
    np.testing.assert_allclose(all_scores(model, Histories.of([[1], [17]])), expected, atol=1e-5)


def test_items_without_pairs_have_the_zero_vector(tmp_path):
    model = fit(tmp_path, random_matrix())
    assert not model.arrays["items"][[0, 5]].any()
    assert model.arrays["items"][[1, 2, 3, 4, 6]].any(axis=1).all()


def test_weights_change_nothing(tmp_path):
    matrix = random_matrix()
    ones = sp.csr_matrix((np.ones_like(matrix.data), matrix.indices, matrix.indptr), matrix.shape)
    first, second = fit(tmp_path / "a", matrix).arrays, fit(tmp_path / "b", ones).arrays
    np.testing.assert_array_equal(first["items"], second["items"])


@pytest.mark.parametrize("powers", [FULL, GF_CF])
def test_checkerboard_missing_item_comes_first(tmp_path, powers):
    matrix = checkerboard_matrix(checkerboard(24, 14), 14)
    model = fit(tmp_path, matrix, factors=2, **powers)
    scores = np.array(all_scores(model, Histories.of([matrix[user].indices.tolist() for user in range(24)])))
    scores[:, 0] = -np.inf
    scores[matrix.nonzero()] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 14) for user in range(24)]


def test_no_pairs_at_all(tmp_path):
    model = fit(tmp_path, sp.csr_matrix((4, 5), dtype=np.float32))
    assert model.arrays["items"].shape == (5, 1)
    assert not all_scores(model, Histories.of([[1, 2], []])).any()


class TestSvdModel(ItemModelContract):
    @pytest.fixture
    def model(self, tmp_path):
        return fit(tmp_path, random_matrix())

    def test_users_without_history_have_the_zero_vector(self, model):
        assert not model.encode(Histories.of([[], [1], []]))[[0, 2]].any()

    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_no_bit_of_a_user_depends_on_the_batch(self, model, size):
        histories = make_histories(30)
        parts = [model.encode(batch) for batch in histories.batches(size)]
        np.testing.assert_array_equal(np.concatenate(parts), model.encode(histories))

    def test_a_sum_is_rounded_once(self):
        items = np.array([[0], [1], [2**-24], [2**-24]], np.float32)  # float32 loses each small one beside 1
        arrays = {"items": items, "weights": np.ones(4), "spectrum": np.ones(1)}
        model = SvdModel(4, {}, arrays)
        assert model.encode(Histories.of([[1, 2, 3], [2, 3, 1]])).tolist() == [[1 + 2**-23]] * 2

    def test_an_unknown_item_is_refused(self, model):
        with pytest.raises(ValueError, match="not all in the table of 30 items"):
            model.encode(Histories.of([[1], [30]]))
