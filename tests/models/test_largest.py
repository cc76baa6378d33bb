"""The compiled loops against sorts by numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.models.heap import item_of, key_of, score_of, select
from recsys_spark.models.largest import ROOM, ascending, largest

SCORES = st.lists(st.sampled_from([0, 1e-45, 1e-38, 0.1, 0.25, 1, 3, 1e9]), max_size=60)


def run(items, scores, k) -> list[tuple[int, float]]:
    """What `largest` finds, in the order of a list."""
    entries = np.empty(ROOM * k, np.uint64)
    found = largest(np.array(items, np.int32), np.array(scores, np.float32), len(items), k, entries)
    return [(item_of(e), float(score_of(e))) for e in sorted(entries[:found], reverse=True)]


@settings(deadline=None)  # the first example compiles
@given(scores=SCORES, k=st.integers(1, 20), seed=st.integers(0, 9))
def test_equals_a_sort_in_whatever_order_items_come(scores, k, seed):
    scores = np.array(scores, np.float32)
    items = np.random.default_rng(seed).permutation(len(scores)) + 1
    order = np.lexsort((items, -scores))
    expected = [(int(items[at]), float(scores[at])) for at in order if scores[at] > 0][:k]
    assert run(items, scores, k) == expected


def test_entries_keep_item_and_score():
    for item, score in ((0, 0.0), (2**31 - 1, 1e-45), (77, 3.5), (5, np.inf)):
        found = key_of(np.float32(score), item)
        assert (item_of(found), score_of(found)) == (item, np.float32(score))


def test_a_nan_is_told():
    scores = np.array([1, 5, np.nan, 4], np.float32)
    assert largest(np.arange(4, dtype=np.int32), scores, 4, 1, np.empty(ROOM, np.uint64)) == -1


@pytest.mark.parametrize("order", ["up", "down", "random", "equal"])
@pytest.mark.parametrize("k", [1, 2, 50, 99, 100])
def test_cut_leaves_the_largest_first(order, k):
    values = np.random.default_rng(k).permutation(1000)[:100]
    values = {"up": np.sort(values), "down": -np.sort(-values), "random": values, "equal": np.ones(100)}[order]
    entries = values.copy()
    select(entries, 100, k)
    assert entries[k - 1] == np.sort(values)[-k]
    assert sorted(entries[:k]) == sorted(values)[-k:]
    assert sorted(entries) == sorted(values)


@pytest.mark.parametrize("n_items", [1, 2, 255, 256, 257, 70_000, 2**31 - 1])
def test_items_ascend(n_items):
    rng = np.random.default_rng(n_items)
    items = np.unique(rng.integers(0, n_items, 300))
    entries = np.array([key_of(np.float32(rng.random()), i) for i in rng.permutation(items)])
    found, spare = np.empty((2, len(items)), np.int32)
    ascending(entries, len(items), n_items, found, spare)
    assert found.tolist() == items.tolist()
