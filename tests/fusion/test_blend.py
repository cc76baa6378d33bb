"""Fusing lists: known answers and naive twins."""

import math
from itertools import pairwise

import numpy as np
import pytest

from recsys_spark.fusion import blend as fusion
from recsys_spark.fusion.blend import RRF, ZSCORE, Blend, fuse, parts, union

INF = -np.inf


def candidates(seed, n_users=40, n_items=80, n_models=3, levels=6):
    """items [U, C] ragged and padded, scores [M, U, C] with ties and rubbish where padded."""
    rng = np.random.default_rng(seed)
    lists = [np.sort(1 + rng.permutation(n_items - 1)[: rng.integers(1, 30)]) for _ in range(n_users)]
    items = np.zeros((n_users, max(map(len, lists))), np.int32)
    for row, own in zip(items, lists):
        row[: len(own)] = own
    return items, rng.integers(0, levels, (n_models, *items.shape)).astype(np.float32)


def test_union_is_each_item_once_ascending():
    lists = [
        np.array([[5, 3, 0], [2, 0, 0], [0, 0, 0]], np.int32),
        np.array([[3, 9], [2, 1], [0, 0]], np.int32),
    ]
    np.testing.assert_array_equal(union(lists), [[3, 5, 9], [1, 2, 0], [0, 0, 0]])
    assert union([np.zeros((2, 3), np.int32)]).shape == (2, 0)


def test_standard_scores_of_a_small_case():
    items = np.array([[1, 2, 3, 0]], np.int32)
    scores = np.array([[[1, 2, 3, 99]], [[7, 7, 7, 0]]], np.float32)
    step = 1 / math.sqrt(2 / 3)  # mean 2, variance (1 + 0 + 1) / 3
    np.testing.assert_allclose(parts(ZSCORE, scores, items), [[[-step, 0, step, 0]], [[0, 0, 0, 0]]], rtol=1e-6)


def test_a_flat_model_says_nothing_even_where_its_mean_is_rounded():
    items = np.arange(1, 8, dtype=np.int32)[None, :]
    np.testing.assert_array_equal(parts(ZSCORE, np.full((1, 1, 7), 0.1, np.float32), items), np.zeros((1, 1, 7)))


def test_reciprocal_ranks_of_a_small_case():
    items = np.array([[4, 6, 8, 0]], np.int32)
    scores = np.array([[[1, 5, 1, 99]]], np.float32)  # item 4 stands before its equal, item 8
    np.testing.assert_allclose(parts(RRF, scores, items), [[[1 / 62, 1 / 61, 1 / 63, 0]]], rtol=1e-6)


def test_fused_scores_add_up_and_name_their_source():
    items = np.array([[1, 2, 3]], np.int32)
    scores = np.array([[[3, 2, 1]], [[1, 2, 3]], [[9, 0, 0]]], np.float32)
    top, total, shares = fuse(Blend(RRF, (0.25, 0.75, 0.0)), scores, items, 2)
    np.testing.assert_array_equal(top, [[3, 2]])
    np.testing.assert_allclose(total, [[0.25 / 63 + 0.75 / 61, 0.25 / 62 + 0.75 / 62]], rtol=1e-6)
    expected = [[0.25 / 63, 0.25 / 62], [0.75 / 61, 0.75 / 62], [-np.inf, -np.inf]]
    np.testing.assert_allclose(shares[:, 0], expected, rtol=1e-6)
    # equal shares: the first model is named; equal totals: the lower item stands first
    top, _, shares = fuse(Blend(RRF, (0.5, 0.5, 0.0)), scores, items, 3)
    np.testing.assert_array_equal(top, [[1, 3, 2]])
    np.testing.assert_array_equal(shares.argmax(axis=0), [[0, 1, 0]])


def test_a_model_without_weight_is_never_a_source():
    items, scores = candidates(3)
    *_, shares = fuse(Blend(ZSCORE, (0.0, 1.0, 0.0)), scores, items, 10)
    assert set(np.unique(shares.argmax(axis=0))) == {1}


def test_a_new_order_decides_what_is_listed_and_the_blend_whose_it_is():
    items = np.array([[1, 2, 3]], np.int32)
    scores = np.array([[[3, 2, 1]], [[1, 2, 3]]], np.float32)
    blend = Blend(RRF, (0.75, 0.25))
    top, total, shares = fuse(blend, scores, items, 3, lambda own: np.array([[INF, 1, 2]], np.float32))
    np.testing.assert_array_equal(top, [[3, 2, 0]])
    np.testing.assert_array_equal(total, [[2, 1, INF]])
    np.testing.assert_array_equal(shares.argmax(axis=0)[:, :2], [[0, 0]])


@pytest.mark.parametrize("method", fusion.METHODS)
@pytest.mark.parametrize("model", [0, 1, 2])
def test_all_weight_on_one_model_gives_its_own_ranking(method, model):
    items, scores = candidates(model)
    weights = tuple(float(m == model) for m in range(3))
    top, total, _ = fuse(Blend(method, weights), scores, items, 8)
    for user in range(len(items)):
        real = items[user] > 0
        own = sorted(zip(-scores[model, user, real], items[user, real]))[:8]
        assert [i for _, i in own] + [0] * (min(8, items.shape[1]) - len(own)) == top[user].tolist()
        assert all(a >= b for a, b in pairwise(total[user]))
