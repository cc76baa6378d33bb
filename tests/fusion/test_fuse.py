"""The fused list: order, ties, contributions, and the models it agrees with."""

from itertools import pairwise

import numpy as np
import pytest

from recsys_spark.fusion.blend import METHODS, RRF, ZSCORE, Blend
from recsys_spark.fusion.fuse import FusedCandidates, Fusion, fuse
from recsys_spark.models.histories import Histories


def fused(blend, scores, items, n):
    fusion = Fusion(("a", "b", "c")[: len(blend.weights)], blend)
    return fuse(fusion, items, scores, n, {}, Histories.of([[] for _ in items]))


def candidates(seed, n_users=40, n_items=80, n_models=3, levels=6):
    """Items [U, C] of unequal number, padded, and scores [M, U, C] with ties, and with any value for padding."""
    rng = np.random.default_rng(seed)
    lists = [np.sort(1 + rng.permutation(n_items - 1)[: rng.integers(1, 30)]) for _ in range(n_users)]
    items = np.zeros((n_users, max(map(len, lists))), np.int32)
    for row, values in zip(items, lists):
        row[: len(values)] = values
    return items, rng.integers(0, levels, (n_models, *items.shape)).astype(np.float32)


def test_fused_scores_are_the_sum_of_the_contributions():
    items = np.array([[1, 2, 3]], np.int32)
    scores = np.array([[[3, 2, 1]], [[1, 2, 3]], [[9, 0, 0]]], np.float32)
    top = fused(Blend(RRF, (0.25, 0.75, 0.0)), scores, items, 2)
    np.testing.assert_array_equal(top.items, [[3, 2]])
    np.testing.assert_allclose(top.scores, [[0.25 / 63 + 0.75 / 61, 0.25 / 62 + 0.75 / 62]], rtol=1e-6)
    expected = [[0.25 / 63, 0.25 / 62], [0.75 / 61, 0.75 / 62], [-np.inf, -np.inf]]
    np.testing.assert_allclose(top.contributions[:, 0], expected, rtol=1e-6)


def test_ties_go_to_the_lower_item():
    items = np.array([[1, 2, 3]], np.int32)
    scores = np.array([[[3, 2, 1]], [[1, 2, 3]], [[9, 0, 0]]], np.float32)
    top = fused(Blend(RRF, (0.5, 0.5, 0.0)), scores, items, 3)
    np.testing.assert_array_equal(top.items, [[1, 3, 2]])
    np.testing.assert_array_equal(top.contributions.argmax(axis=0), [[0, 1, 0]])


def test_a_model_without_weight_contributes_nothing():
    items, scores = candidates(3)
    top = fused(Blend(ZSCORE, (0.0, 1.0, 0.0)), scores, items, 10)
    assert set(np.unique(top.contributions.argmax(axis=0))) == {1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [0, 1, 2])
def test_all_weight_on_one_model_gives_the_ranking_of_that_model(method, model):
    items, scores = candidates(model)
    top = fused(Blend(method, tuple(float(m == model) for m in range(3))), scores, items, 8)
    for user in range(len(items)):
        real = items[user] > 0
        best = sorted(zip(-scores[model, user, real], items[user, real]))[:8]
        assert [i for _, i in best] + [0] * (min(8, items.shape[1]) - len(best)) == top.items[user].tolist()
        assert all(a >= b for a, b in pairwise(top.scores[user]))


def test_take_and_first_choose_columns():
    top = FusedCandidates(np.array([[4, 5, 6]], np.int32), np.array([[3, 2, 1]]), np.array([[[30, 20, 10]]]))
    taken = top.take(np.array([[2, 0, -1]]), np.array([[9, 8, -np.inf]]))
    assert taken.items.tolist() == [[6, 4, 0]] and taken.scores.tolist() == [[9, 8, -np.inf]]
    assert taken.contributions[0, 0, :2].tolist() == [10, 30]
    first = top.first(2)
    assert (first.items.tolist(), first.scores.tolist()) == ([[4, 5]], [[3, 2]])
    assert first.contributions.tolist() == [[[30, 20]]]
