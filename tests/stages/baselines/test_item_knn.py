"""Item kNN: the similarities against a naive loop over pairs of items, with every option."""

import uuid
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factories import checkerboard, missing_item
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemKnnModel
from recsys_spark.stages.baselines import item_knn
from recsys_spark.stages.baselines.item_knn import ItemSimilarity
from stages.baselines.local import Tasks, checkerboard_matrix, dense, put_pairs, random_matrix

COSINE = ItemSimilarity(user_power=0, source_power=0.5, target_power=0.5, similarity_power=1, shrinkage=0)
FULL = ItemSimilarity(user_power=0.5, source_power=0.6, target_power=0.4, similarity_power=0.7, shrinkage=3)


def fit(folder, matrix, *, neighbours=1000, similarity=FULL, parts=3) -> ItemKnnModel:
    pairs = put_pairs(folder / "pairs", matrix, parts)
    return item_knn.fit_pairs(Tasks(), pairs, folder / "table", neighbours=neighbours, similarity=similarity)


def naive(matrix: sp.csr_matrix, s: ItemSimilarity, neighbours: int = 1000) -> np.ndarray:
    """Return the formula of the docstring, pair by pair, with the largest `neighbours` of each row."""
    chosen = matrix.toarray() > 0
    users, items = chosen.sum(axis=1), chosen.sum(axis=0)
    table = np.zeros((len(items), len(items)))
    for j in range(len(items)):
        for i in range(len(items)):
            common = [u for u in range(len(users)) if chosen[u, j] and chosen[u, i]]
            if i == j or not common:
                continue
            shared = sum(users[u] ** (-2 * s.user_power) for u in common)
            value = (shared * items[j] ** -s.source_power * items[i] ** -s.target_power) ** s.similarity_power
            table[j, i] = value * len(common) / (len(common) + s.shrinkage)
        kept = sorted(range(len(items)), key=lambda i, j=j: (-np.float32(table[j, i]), i))[:neighbours]
        table[j, [i for i in range(len(items)) if i not in kept]] = 0
    norms = np.sqrt((table.astype(np.float32).astype(float) ** 2).sum(axis=0))
    return table / np.where(norms > 0, norms, 1) ** s.norm_power


@pytest.mark.parametrize(
    "similarity",
    [
        COSINE,
        FULL,
        ItemSimilarity(0.5, 0.6, 0.4, 0.7, 0),
        ItemSimilarity(0.0, 0.9, 0.0, 1.0, 0),
        ItemSimilarity(1.0, 0.0, 0.5, 0.5, 10),
        ItemSimilarity(0.3, 1.0, 0.2, 1.4, 10, norm_power=0.5),
        ItemSimilarity(0.3, 1.0, -0.7, 1.0, 19, norm_power=0.8),
    ],
)
@pytest.mark.parametrize("neighbours", [1, 5, 1000])
def test_equals_a_naive_loop(tmp_path, similarity, neighbours):
    model = fit(tmp_path, random_matrix(), similarity=similarity, neighbours=neighbours)
    expected = naive(random_matrix(), similarity, neighbours)
    np.testing.assert_allclose(dense(model), expected, rtol=1e-5)


def test_plain_cosine_of_two_items(tmp_path):
    # item 1: users 0 1 2 3, item 2: users 2 3 4
    matrix = sp.csr_matrix(np.array([[0, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1, 1], [0, 0, 1]], np.float32))
    table = dense(fit(tmp_path, matrix, similarity=COSINE))
    np.testing.assert_allclose(table, 2 / np.sqrt(4 * 3) * np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]), rtol=1e-6)


def test_norms_rank_a_candidate_that_resembles_many_items_behind_one_that_resembles_few(tmp_path):
    """Item 5 shares users with the items 1 to 4, item 6 with item 1 alone. Plain cosine to item 1 is the same."""
    rows = [[1, 5]] * 2 + [[1, 6]] * 2 + [[j, 5] for j in (2, 3, 4)] * 2 + [[6]] * 6
    matrix = np.zeros((len(rows), 7), np.float32)
    for user, items in enumerate(rows):
        matrix[user, items] = 1
    plain, divided = (
        dense(fit(tmp_path / str(power), sp.csr_matrix(matrix), similarity=replace(COSINE, norm_power=power)))
        for power in (0.0, 1.0)
    )
    assert plain[1, 5] == plain[1, 6] > 0
    assert divided[1, 6] == pytest.approx(1)
    assert divided[1, 5] < 0.6


def test_source_is_the_history_item_and_target_the_candidate(tmp_path):
    matrix = sp.csr_matrix(np.array([[0, 1, 0], [0, 1, 0], [0, 1, 1]], np.float32))
    only_source = ItemSimilarity(user_power=0, source_power=1, target_power=0, similarity_power=1, shrinkage=0)
    model = fit(tmp_path, matrix, similarity=only_source)
    scores = model.score_tile(model.encode(Histories.of([[1], [2]])), 0, 3)
    np.testing.assert_allclose(scores, [[0, 0, 1 / 3], [0, 1 / 1, 0]], rtol=1e-6)


POWERS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])
SIMILARITIES = st.builds(
    ItemSimilarity, POWERS, POWERS, st.one_of(POWERS, st.sampled_from([-0.7, -1.5])),
    st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.0, 0.5, 10.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
)  # fmt: skip
CHOSEN = st.lists(st.sets(st.integers(1, 9)), max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=CHOSEN, similarity=SIMILARITIES, neighbours=st.integers(1, 10), parts=st.integers(1, 14))
def test_equals_the_formula_with_any_option(tmp_path, chosen, similarity, neighbours, parts):
    matrix = np.zeros((len(chosen) + 1, 10), np.float32)
    for user, items in enumerate(chosen):
        matrix[user, list(items)] = 1
    folder = tmp_path / uuid.uuid4().hex
    model = fit(folder, sp.csr_matrix(matrix), neighbours=neighbours, similarity=similarity, parts=parts)
    expected = naive(sp.csr_matrix(matrix), similarity, neighbours)
    np.testing.assert_allclose(dense(model), expected, rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 17])
@pytest.mark.parametrize("output", [1, 40, 1 << 21])
def test_any_number_of_tasks_and_any_chunks_give_the_same_table(tmp_path, monkeypatch, parts, output):
    options = {"neighbours": 7, "similarity": replace(FULL, norm_power=0.5)}
    expected = fit(tmp_path / "a", random_matrix(), **options).arrays
    monkeypatch.setattr("recsys_spark.stages.baselines.neighbour_table.OUTPUT", output)  # 1: an item at a time
    arrays = fit(tmp_path / "b", random_matrix(), parts=parts, **options).arrays
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("heavy", [True, False])
def test_with_few_and_with_all_items_as_candidates(tmp_path, heavy):
    # heavy: user 0 has all 300 items and item 7 all 200 users, so every item is a candidate of every other
    rng = np.random.default_rng(0)
    matrix = (rng.random((200, 301)) < 0.01).astype(np.float32)
    if heavy:
        matrix[0], matrix[:, 7] = 1, 1
    matrix[:, 0] = 0
    table = dense(fit(tmp_path, sp.csr_matrix(matrix), neighbours=20))
    users, items = np.maximum(matrix.sum(axis=1), 1), np.maximum(matrix.sum(axis=0), 1)
    shared = (matrix / users[:, None]).T.astype(np.float64) @ matrix
    common = matrix.T @ matrix
    expected = (shared * items[:, None] ** -0.6 * items**-0.4) ** 0.7 * common / (common + 3)
    np.fill_diagonal(expected, 0)
    for j in range(1, 301):
        kept = np.lexsort((np.arange(301), -expected[j].astype(np.float32)))[:20]
        kept = kept[expected[j][kept] > 0]
        assert np.flatnonzero(table[j]).tolist() == sorted(kept.tolist())
        np.testing.assert_allclose(table[j][kept], expected[j][kept], rtol=1e-6)


def test_of_equal_similarities_the_lower_items_are_kept(tmp_path):
    everyone = np.ones((6, 9), np.float32)
    everyone[:, 0] = 0
    table = dense(fit(tmp_path, sp.csr_matrix(everyone), neighbours=3, similarity=COSINE))
    assert [np.flatnonzero(table[j]).tolist() for j in (1, 3, 8)] == [[2, 3, 4], [1, 2, 4], [1, 2, 3]]


def test_weights_change_nothing(tmp_path):
    matrix = random_matrix()
    ones = sp.csr_matrix((np.ones_like(matrix.data), matrix.indices, matrix.indptr), matrix.shape)
    first, second = fit(tmp_path / "a", matrix).arrays, fit(tmp_path / "b", ones).arrays
    np.testing.assert_array_equal(first["similarities"], second["similarities"])


def test_types_and_rows_of_the_arrays(tmp_path):
    model = fit(tmp_path, random_matrix(), neighbours=4)
    arrays = model.arrays
    assert [arrays[name].dtype for name in ("indptr", "neighbours", "similarities")] == [
        np.int64,
        np.int32,
        np.float32,
    ]
    assert len(arrays["indptr"]) == 30 + 1
    assert np.diff(arrays["indptr"])[[0, 5]].tolist() == [0, 0]  # the padding item, and one without pairs
    assert np.diff(arrays["indptr"]).max() == 4
    for row in range(30):
        candidates = arrays["neighbours"][arrays["indptr"][row] : arrays["indptr"][row + 1]].tolist()
        assert candidates == sorted(set(candidates) - {row, 0})


@pytest.mark.parametrize("similarity", [COSINE, FULL])
def test_checkerboard_missing_item_comes_first(tmp_path, similarity):
    matrix = checkerboard_matrix(checkerboard(24, 14), 14)
    model = fit(tmp_path, matrix, similarity=similarity)
    own = [matrix[user].indices.tolist() for user in range(24)]
    scores = np.array(model.score_tile(model.encode(Histories.of(own)), 0, 15))
    scores[:, 0] = -np.inf
    scores[matrix.nonzero()] = -np.inf
    assert scores.argmax(axis=1).tolist() == [missing_item(user, 14) for user in range(24)]


def test_no_pairs_at_all(tmp_path):
    model = fit(tmp_path, sp.csr_matrix((4, 5), dtype=np.float32))
    assert model.arrays["indptr"].tolist() == [0] * 6
    assert len(model.arrays["neighbours"]) == len(model.arrays["similarities"]) == 0
