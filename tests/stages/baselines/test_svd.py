"""The filter against numpy's singular vectors and against the formulas of the papers, and that blocks change nothing."""

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from models.model_contract import ItemModelLaws, all_scores, make_histories
from recsys_spark.models.histories import Histories
from recsys_spark.models.svd import SpectralModel
from recsys_spark.stages.baselines import svd
from stages.baselines.local import Tasks, checkerboard_matrix, put_pairs, random_matrix

FULL = {"user_power": 0.5, "item_power": 0.3, "singular_power": 1.0, "target_power": 0.15}
PURE = {"user_power": 0.0, "item_power": 0.0, "singular_power": 0.0, "target_power": 0.0}
GF_CF = {"user_power": 0.5, "item_power": 0.5, "singular_power": 0.0, "target_power": 0.5}


def fit(folder, matrix, *, blocks=3, factors=6, **powers) -> SpectralModel:
    pairs = put_pairs(folder / "pairs", matrix, blocks)
    return svd.fit(Tasks(), pairs, folder / "svd", factors=factors, **{**FULL, **powers})


def degrees_of(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    chosen = matrix.toarray() > 0
    return np.maximum(chosen.sum(axis=1), 1.0), np.maximum(chosen.sum(axis=0), 1.0)


def right_vectors(matrix: sp.csr_matrix, user_power: float, item_power: float, factors: int):
    """V float64 [I, F] and sigma of the normalised matrix, by numpy."""
    users, items = degrees_of(matrix)
    normalised = (matrix.toarray() > 0) * users[:, None] ** -user_power * items**-item_power
    _, sigma, rows = np.linalg.svd(normalised)
    return rows[:factors].T, sigma[:factors]


def naive(matrix: sp.csr_matrix, lists: list[list[int]], factors: int, **powers: float) -> np.ndarray:
    """The formula of the docstring; float64 [B, I]."""
    p = {**FULL, **powers}
    vectors, sigma = right_vectors(matrix, p["user_power"], p["item_power"], factors)
    _, items = degrees_of(matrix)
    x = np.array([np.isin(np.arange(len(items)), row) for row in lists], float)
    filtered = (x * items ** -p["item_power"]) @ vectors * sigma ** p["singular_power"] @ vectors.T
    return filtered * items ** p["target_power"]


def lists_of(matrix: sp.csr_matrix) -> list[list[int]]:
    """Histories of users whom the fit knows and of others; item 5 is of nobody in `random_matrix`."""
    own = [matrix[user].indices.tolist() for user in range(6)]
    return [*own, [7, 5, 12], [29], [5], []]


@pytest.mark.parametrize("powers", [FULL, PURE, GF_CF, {**FULL, "singular_power": 0.5}])
@pytest.mark.parametrize("factors", [1, 6, 20])
def test_equals_the_formula_with_numpy_s_vectors(tmp_path, powers, factors):
    matrix = random_matrix()
    model, lists = fit(tmp_path, matrix, factors=factors, **powers), lists_of(random_matrix())
    expected = naive(matrix, lists, factors, **powers)
    found = all_scores(model, Histories.of(lists))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_the_ideal_low_pass_filter_as_gf_cf_writes_it(tmp_path):
    matrix = random_matrix()
    users, items = degrees_of(matrix)
    r = (matrix.toarray() > 0).astype(float)
    normalised = np.diag(users**-0.5) @ r @ np.diag(items**-0.5)
    top = np.linalg.eigh(normalised.T @ normalised)[1][:, -6:]
    expected = r @ np.diag(items**-0.5) @ top @ top.T @ np.diag(items**0.5)
    model = fit(tmp_path, matrix, **GF_CF)
    found = all_scores(model, Histories.of([matrix[user].indices.tolist() for user in range(50)]))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_arrays_hold_orthonormal_vectors_and_falling_values(tmp_path):
    matrix = random_matrix()
    model = fit(tmp_path, matrix)
    _, items = degrees_of(matrix)
    vectors, sigma = right_vectors(matrix, 0.5, 0.3, 6)
    found = model.arrays["items"] * items[:, None] ** -0.15
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(np.abs(found.T @ vectors), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(model.arrays["spectrum"], sigma, rtol=1e-5)
    np.testing.assert_allclose(model.arrays["weights"], items**-0.45, rtol=1e-12)
    largest = np.abs(found).argmax(axis=0)
    assert (found[largest, range(6)] > 0).all()


def test_few_vectors_of_many_are_found_by_iteration(tmp_path, monkeypatch):
    # six tastes of different strength, and noise
    rng = np.random.default_rng(3)
    taste = rng.integers(0, 6, 400)
    likes = np.arange(241) % 6 == taste[:, None]
    chosen = rng.random((400, 241)) < np.where(likes, 0.5 - taste[:, None] * 0.05, 0.01)
    chosen[:, 0] = False
    matrix = sp.csr_matrix(chosen.astype(np.float32))
    monkeypatch.setattr(svd, "MORE", 6)
    model = fit(tmp_path, matrix, factors=6)
    _, sigma = right_vectors(matrix, 0.5, 0.3, 6)
    np.testing.assert_allclose(model.arrays["spectrum"], sigma, rtol=1e-5)
    monkeypatch.setattr(svd, "PASSES", 0)
    once = fit(tmp_path / "once", matrix, factors=6)
    assert (once.arrays["spectrum"] < sigma * (1 - 1e-3)).any()
    # what was found so far is told as it is: the values are those of the vectors, and N keeps these apart
    users, items = degrees_of(matrix)
    moved = (chosen * users[:, None] ** -0.5 * items**-0.3) @ (once.arrays["items"] * items[:, None] ** -0.15)
    np.testing.assert_allclose(moved.T @ moved, np.diag(once.arrays["spectrum"] ** 2), atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2, 17])
@pytest.mark.parametrize("rows", [3, 4096])
def test_any_number_of_tasks_and_rows_at_a_time_gives_the_same_model(tmp_path, monkeypatch, blocks, rows):
    expected = fit(tmp_path / "a", random_matrix())
    monkeypatch.setattr(svd, "ROWS", rows)
    found = fit(tmp_path / "b", random_matrix(), blocks=blocks)
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=1e-4, atol=1e-5)


def test_the_same_bytes_again(tmp_path):
    first, again = (fit(tmp_path / name, random_matrix()).arrays for name in "ab")
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_no_more_factors_than_there_are(tmp_path):
    # three groups of items, of which each user chose one, two or three as a whole: rank 3, whatever the degrees
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


def test_weights_do_not_count(tmp_path):
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


class TestSpectralModel(ItemModelLaws):
    @pytest.fixture
    def model(self, tmp_path):
        return fit(tmp_path, random_matrix())

    def test_users_without_history_have_the_zero_vector(self, model):
        assert not model.encode(Histories.of([[], [1], []]))[[0, 2]].any()

    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_a_user_is_the_same_bits_in_any_batch(self, model, size):
        histories = make_histories(30)
        parts = [model.encode(batch) for batch in histories.batches(size)]
        np.testing.assert_array_equal(np.concatenate(parts), model.encode(histories))

    def test_a_sum_is_rounded_once(self):
        items = np.array([[0], [1], [2**-24], [2**-24]], np.float32)  # each small one alone is lost beside 1
        arrays = {"items": items, "weights": np.ones(4), "spectrum": np.ones(1)}
        model = SpectralModel(4, {}, arrays)
        assert model.encode(Histories.of([[1, 2, 3], [2, 3, 1]])).tolist() == [[1 + 2**-23]] * 2

    def test_an_item_without_a_vector_is_refused(self, model):
        with pytest.raises(ValueError, match="not all in the table of 30 items"):
            model.encode(Histories.of([[1], [30]]))
