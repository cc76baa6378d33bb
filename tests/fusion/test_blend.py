"""Normalised scores and their weighted sum: small cases by hand."""

import math

import numpy as np

from recsys_spark.fusion.blend import RRF, ZSCORE, among_best, normalise, union, weighted_sum


def test_union_has_each_item_once_ascending():
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
    np.testing.assert_allclose(normalise(ZSCORE, scores, items), [[[-step, 0, step, 0]], [[0, 0, 0, 0]]], rtol=1e-6)


def test_equal_scores_become_0_even_if_their_mean_is_rounded():
    items = np.arange(1, 8, dtype=np.int32)[None, :]
    np.testing.assert_array_equal(normalise(ZSCORE, np.full((1, 1, 7), 0.1, np.float32), items), np.zeros((1, 1, 7)))


def test_reciprocal_ranks_of_a_small_case():
    items = np.array([[4, 6, 8, 0]], np.int32)
    scores = np.array([[[1, 5, 1, 99]]], np.float32)  # item 4 ranks before item 8, which has the same score
    np.testing.assert_allclose(normalise(RRF, scores, items), [[[1 / 62, 1 / 61, 1 / 63, 0]]], rtol=1e-6)


def test_padding_may_lie_between_items_and_a_user_may_have_no_items():
    scores = np.array([[[1, -np.inf, 3], [5, 6, 7]]], np.float32)
    items = np.array([[4, 0, 8], [0, 0, 0]], np.int32)
    np.testing.assert_allclose(normalise(ZSCORE, scores, items), [[[-1, 0, 1], [0, 0, 0]]])
    np.testing.assert_allclose(normalise(RRF, scores, items), [[[1 / 62, 0, 1 / 61], [0, 0, 0]]], rtol=1e-6)


def test_among_best_are_the_first_ranks():
    items = np.arange(1, 101, dtype=np.int32)[None]
    ranks = normalise(RRF, -items[None].astype(np.float32), items)
    for depth in (1, 7, 99):
        np.testing.assert_array_equal(np.flatnonzero(among_best(ranks, depth)), np.arange(depth))


def test_the_blend_is_the_weighted_sum_and_padding_never_wins():
    items = np.array([[1, 2, 0]], np.int32)
    normalised = np.array([[[1, 2, 0]], [[-4, 8, 0]], [[np.nan, 0, 0]]], np.float32)
    np.testing.assert_allclose(weighted_sum((0.75, 0.25, 0), normalised, items), [[0.75 - 1, 1.5 + 2, -np.inf]])
