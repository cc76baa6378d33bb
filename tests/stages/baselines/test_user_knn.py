"""User kNN: the scores against a naive loop over pairs of users, with every option."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from factories import checkerboard, missing_item
from models.model_contract import ItemModelContract, all_scores
from recsys_spark.hashing import hash64
from recsys_spark.models.histories import Histories
from recsys_spark.models.user_knn import UserKnnModel, measure
from recsys_spark.stages.baselines import user_knn
from recsys_spark.stages.baselines.user_knn import UserSimilarity
from recsys_spark.topk import Exclusions, top_k
from stages.baselines.local import checkerboard_matrix, put_pairs, random_matrix
from topk.reference import assert_best

COSINE = UserSimilarity("cosine", item_power=0.0, user_power=0.5, similarity_power=1.0, target_power=0.0)
FULL = UserSimilarity("cosine", item_power=0.5, user_power=0.4, similarity_power=1.3, target_power=0.3)
PEARSON = replace(COSINE, similarity="pearson")
FORMULAS = [COSINE, FULL, PEARSON, replace(FULL, similarity="pearson")]


def fit(folder, matrix, *, neighbours=1000, max_users=None, similarity=FULL, parts=3) -> UserKnnModel:
    pairs = put_pairs(folder / "pairs", matrix, parts)
    sizes = {"neighbours": neighbours, "max_users": max_users}
    return user_knn.fit_pairs(pairs, folder / "user_knn", similarity=similarity, **sizes)


def naive(
    matrix: sp.csr_matrix, lists: list[list[int]], s: UserSimilarity, neighbours: int = 1000, users=None
) -> np.ndarray:
    """Return float64 [B, I] by the formula of the docstring, user by user. `users` are the references. None: all."""
    chosen = matrix.toarray() > 0
    degrees = chosen.sum(axis=0)
    known = degrees > 0
    w = np.where(known, np.maximum(degrees, 1.0) ** -s.item_power, 0)
    scores = np.zeros((len(lists), len(w)))
    for user, items in enumerate(lists):
        x = np.isin(np.arange(len(w)), items) & known
        similar = {}
        for v in range(len(chosen)) if users is None else users:
            if not (chosen[v] & ~x).any():
                continue  # nothing that the user has not
            if s.similarity == "cosine":
                top, sizes = w[x & chosen[v]].sum(), (x.sum(), chosen[v].sum())
            else:  # sums of squares about the weighted means, not the short way of the model
                a, b = (row - np.average(row, weights=w) for row in (x.astype(float), chosen[v].astype(float)))
                top, sizes = (w * a * b).sum(), ((w * a * a).sum(), (w * b * b).sum())
            if top > 1e-12 and min(sizes) > 1e-12:
                similar[v] = (top / (sizes[0] * sizes[1]) ** s.user_power) ** s.similarity_power
        for v in sorted(similar, key=lambda v: (-np.float32(similar[v]), v))[:neighbours]:
            scores[user] += similar[v] * chosen[v]
    return scores * np.maximum(degrees, 1.0) ** -s.target_power


def lists_of(matrix: sp.csr_matrix) -> list[list[int]]:
    """Histories of users whom the fit knows and of others; some hold item 5, which nobody has in `random_matrix`."""
    rng = np.random.default_rng(2)
    own = [matrix[user].indices.tolist() for user in range(8)]
    return own + [[5, *rng.permutation(np.arange(6, 30))[:n].tolist()] for n in (1, 3, 7)] + [[5], []]


@pytest.mark.parametrize("similarity", FORMULAS)
@pytest.mark.parametrize("neighbours", [1, 4, 1000])
def test_equals_a_naive_loop(tmp_path, similarity, neighbours):
    matrix = random_matrix()
    model = fit(tmp_path, matrix, similarity=similarity, neighbours=neighbours)
    lists = lists_of(matrix)
    expected = naive(matrix, lists, similarity, neighbours)
    np.testing.assert_allclose(all_scores(model, Histories.of(lists)), expected, rtol=1e-5, atol=1e-9)
    assert expected[:8].any(axis=1).sum() == 6  # user 3 has no items, and user 4 has all items that others have


def test_pearson_is_the_correlation_of_two_rows(tmp_path):
    matrix = random_matrix(n_users=12)
    model = fit(tmp_path, matrix, similarity=PEARSON)
    rows = (matrix.toarray() > 0)[:, np.asarray(matrix.sum(axis=0))[0] > 0]
    neighbours = model.encode(Histories.of([matrix[0].indices.tolist()]))
    similarities = dict(zip(neighbours.indices.tolist(), neighbours.data.tolist(), strict=True))
    active = [v for v in range(12) if rows[v].any()]  # the reference users, in this order
    expected = {n: np.corrcoef(rows[0], rows[v])[0, 1] for n, v in enumerate(active) if not rows[v].all()}
    expected = {n: r for n, r in expected.items() if r > 0 and active[n] != 0}
    assert expected and similarities == pytest.approx(expected, rel=1e-5)


def test_users_with_all_items_have_no_variance_in_any_order_of_summation():
    rng = np.random.default_rng(0)
    weights = rng.random(40)
    items = np.concatenate([rng.permutation(40) for _ in range(50)]).astype(np.int32)
    masses, scales = measure(np.arange(51) * 40, items, weights, 1 / weights.sum(), 0.5)
    assert len(np.unique(masses)) > 1
    assert not scales.any()


def test_cosine_of_two_users(tmp_path):
    # two of user 0's three items are user 1's, who has four
    matrix = sp.csr_matrix(np.array([[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]], np.float32))
    model = fit(tmp_path, matrix, similarity=COSINE)
    scores = all_scores(model, Histories.of([[1, 2, 3]]))
    np.testing.assert_allclose(scores[0], 2 / np.sqrt(3 * 4) * np.array([0, 0, 1, 1, 1, 1]), rtol=1e-6)


def test_a_user_is_not_a_neighbour_of_themselves(tmp_path):
    matrix = random_matrix()
    own = matrix[0].indices.tolist()
    others = sp.csr_matrix(np.delete(matrix.toarray(), 0, axis=0))
    with_user = fit(tmp_path / "a", matrix, neighbours=5, similarity=COSINE)
    without = fit(tmp_path / "b", others, neighbours=5, similarity=COSINE)
    exclusions = Exclusions(np.zeros(30, bool), Histories.of([own]))
    lists = [top_k(m, m.encode(Histories.of([own])), exclusions, 8, 64)[0].tolist() for m in (with_user, without)]
    assert lists[0] == lists[1]
    neighbours = with_user.encode(Histories.of([own]))
    assert len(neighbours.indices) == 5 and 0 not in neighbours.indices


def test_of_equal_neighbours_the_lower_numbers_are_kept(tmp_path):
    # users 0 … 4 share item 1 with the history, and each has one more of their own
    matrix = np.zeros((5, 7), np.float32)
    matrix[:, 1] = 1
    matrix[np.arange(5), 2 + np.arange(5)] = 1
    model = fit(tmp_path, sp.csr_matrix(matrix), neighbours=2, similarity=COSINE)
    assert np.flatnonzero(all_scores(model, Histories.of([[1]]))[0]).tolist() == [1, 2, 3]


@pytest.mark.parametrize("similarity", FORMULAS)
def test_checkerboard_missing_item_comes_first(tmp_path, similarity):
    matrix = checkerboard_matrix(checkerboard(24, 14), 14)
    model = fit(tmp_path, matrix, similarity=similarity, neighbours=6)
    histories = Histories.of([matrix[user].indices.tolist() for user in range(24)])
    exclusions = Exclusions(np.arange(15) == 0, histories)
    items, _ = top_k(model, model.encode(histories), exclusions, 1, 64)
    assert items[:, 0].tolist() == [missing_item(user, 14) for user in range(24)]


@pytest.mark.parametrize("parts", [1, 2, 17])
def test_any_number_of_parts_gives_the_same_bytes(tmp_path, parts):
    expected = fit(tmp_path / "a", random_matrix(), max_users=20)
    other = fit(tmp_path / "b", random_matrix(), max_users=20, parts=parts)
    assert other.parameters == expected.parameters
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(other.arrays[name], array)


def test_reference_users_are_capped_by_hash_but_items_keep_their_degrees(tmp_path):
    matrix = random_matrix()
    active = np.flatnonzero(np.diff(matrix.indptr))
    kept = sorted(active[np.argsort(hash64(active))][:9].tolist())
    assert kept != active[:9].tolist()
    model = fit(tmp_path, matrix, max_users=9)
    own = [model.arrays["user_items"][lo:hi].tolist() for lo, hi in pairwise(model.arrays["user_indptr"])]
    assert own == [sorted(matrix[user].indices.tolist()) for user in kept]
    lists = lists_of(matrix)
    expected = naive(matrix, lists, FULL, users=kept)
    np.testing.assert_allclose(all_scores(model, Histories.of(lists)), expected, rtol=1e-5, atol=1e-9)


def test_no_pairs_at_all(tmp_path):
    for similarity in (COSINE, PEARSON):
        model = fit(tmp_path / similarity.similarity, sp.csr_matrix((4, 5), dtype=np.float32), similarity=similarity)
        assert not all_scores(model, Histories.of([[1, 2], []])).any()


@pytest.mark.parametrize("items", [[30], [3, -1]])
def test_an_item_without_a_row_is_refused(tmp_path, items):
    model = fit(tmp_path, random_matrix())
    with pytest.raises(ValueError, match="not all in the table of 30 items"):
        model.encode(Histories.of([[1], items]))
    with pytest.raises(ValueError, match="not all in the table of 30 items"):
        model.score_items(model.encode(Histories.of([[1]])), np.array([items], np.int32))


class TestUserNeighbours(ItemModelContract):
    @pytest.fixture(params=["cosine", "pearson"])
    def model(self, request, tmp_path):
        return fit(tmp_path, random_matrix(), neighbours=6, similarity=replace(FULL, similarity=request.param))

    def test_scores_tell_items_apart(self, model, histories):
        scores = all_scores(model, histories)
        assert np.ptp(scores[4:, 1:], axis=1).min() > 0
        assert not scores[2].any()  # the user has all items

    @pytest.mark.parametrize("k", [1, 5, 29, 40])
    def test_lists_equal_a_full_sort(self, model, histories, k):
        banned = np.isin(np.arange(30), [0, 4, 9])
        lists = top_k(model, model.encode(histories), Exclusions(banned, histories), k, 64)
        assert_best(lists, all_scores(model, histories), histories, banned)


class TestWithoutReferences(ItemModelContract):
    @pytest.fixture
    def model(self, tmp_path):
        return fit(tmp_path, sp.csr_matrix((4, 9), dtype=np.float32))

    def test_scores_tell_items_apart(self, model, histories):
        assert not all_scores(model, histories).any()
