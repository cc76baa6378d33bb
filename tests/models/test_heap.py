"""The k largest of a row, against a sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.models.heap import item_of, key_of, largest, largest_of_rows, score_of


@pytest.mark.parametrize("score", [0.0, -0.0, 1.5, -1.5, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf])
def test_a_key_holds_its_score_and_item(score):
    key = np.uint64(key_of(np.float32(score), np.int32(7)))
    assert item_of(key) == 7 and score_of(key) == np.float32(score)


def test_keys_are_in_the_order_of_a_list():
    pairs = [(3.0, 9), (2.0, 1), (2.0, 5), (0.0, 3), (-0.0, 4), (-1.0, 2), (-np.inf, 6)]
    keys = [key_of(np.float32(score), np.int32(item)) for score, item in pairs]
    assert keys == sorted(keys, reverse=True)


@settings(deadline=None, max_examples=100)
@given(size=st.integers(0, 60), k=st.integers(1, 70), levels=st.sampled_from([2, 5, 1000]), seed=st.integers(0, 999))
def test_largest_equals_a_sort_of_the_scores_above_zero(size, k, levels, seed):
    rng = np.random.default_rng(seed)
    items = rng.permutation(200)[:size].astype(np.int32)
    scores = (rng.integers(0, levels, size) - levels // 3).astype(np.float32)
    keys = np.zeros(k, np.uint64)
    n = largest(items, scores, size, k, keys)
    best = sorted((-s, i) for s, i in zip(scores.tolist(), items.tolist()) if s > 0)[:k]
    assert sorted((-float(score_of(key)), int(item_of(key))) for key in keys[:n]) == best


def test_largest_of_rows_fall_and_leave_other_places_alone():
    indptr, columns = np.array([0, 3, 3, 4]), np.array([4, 2, 9, 1], np.int32)
    values = np.array([0.5, 0.5, 0.75, -1], np.float32)
    items, scores = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
    largest_of_rows(indptr, columns, values, items, scores)
    assert items.tolist() == [[9, 2], [0, 0], [0, 0]] and scores.tolist() == [[0.75, 0.5], [0, 0], [0, 0]]
