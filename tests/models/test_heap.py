"""The best of what is offered, against a full sort; keys; margins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import ContractViolation
from recsys_spark.models.heap import Best, Hidden, keys_of, rank_pairs
from recsys_spark.models.histories import Histories

floats = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False) | st.sampled_from([0.0, -0.0, 2.0**120])


def full_sort(scores, histories, banned, m):
    """The oracle: (items, scores) of the first m of every allowed item of each user, sorted by (-score, item)."""
    items, best = np.zeros((len(scores), m), np.int32), np.full((len(scores), m), -np.inf, np.float32)
    for user, own in enumerate(scores):
        seen = set(histories.items[histories.indptr[user] : histories.indptr[user + 1]].tolist())
        allowed = [i for i in range(len(own)) if i not in seen and not banned[i]]
        top = sorted(allowed, key=lambda i: (-own[i], i))[:m]
        items[user, : len(top)], best[user, : len(top)] = top, own[top]
    return items, best


def world(seed, n_users, n_items, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels + 1, (n_users, n_items)).astype(np.float32)
    histories = Histories.of([rng.permutation(n_items)[: rng.integers(0, n_items)].tolist() for _ in range(n_users)])
    banned = rng.random(n_items) < 0.2
    banned[0] = True
    return rng, scores, Hidden(banned, histories), full_sort(scores, histories, banned, 7)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_users=st.integers(1, 5),
    n_items=st.integers(2, 400),
    tile=st.sampled_from([1, 15, 16, 63, 64, 65, 200, 400]),
    levels=st.sampled_from([0, 1, 5, 100_000]),
)
def test_equals_a_full_sort(seed, n_users, n_items, tile, levels):
    _, scores, hidden, (items, best) = world(seed, n_users, n_items, levels)
    found = Best(hidden, 7)
    for start in range(0, n_items, tile):
        found.offer(scores[:, start : start + tile], 0, start)
    assert not len(found.crowded())
    np.testing.assert_array_equal(found.lists()[0], items)
    np.testing.assert_array_equal(found.lists()[1], best)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), n_items=st.integers(2, 400), tile=st.sampled_from([1, 64, 100]))
def test_within_its_margin_nothing_is_lost(seed, n_items, tile):
    rng, scores, hidden, (items, best) = world(seed, 3, n_items, 30)
    off = (scores + rng.uniform(-0.7, 0.7, scores.shape)).astype(np.float32)
    found = Best(hidden, 7, np.full(3, 3.0, np.float32))  # two scores may each be off by 0.7, either way
    for start in range(0, n_items, tile):
        found.offer(off[:, start : start + tile], 0, start)
    pairs = found.pairs()
    exact = np.where(pairs > 0, np.take_along_axis(scores, pairs, axis=1), np.float32(0))
    again = rank_pairs(pairs, exact, 7)
    whole = np.setdiff1d(np.arange(3), found.crowded())
    np.testing.assert_array_equal(again[0][whole], items[whole])
    np.testing.assert_array_equal(again[1][whole], best[whole])


def test_a_row_with_too_many_within_the_margin_is_crowded():
    hidden = Hidden(np.zeros(1000, bool), Histories.of([[], []]))
    found = Best(hidden, 5, np.array([1e-3, 1e-3], np.float32))
    found.offer(np.stack([np.linspace(1, 2, 1000), np.full(1000, 1)]).astype(np.float32), 0, 0)
    assert found.crowded().tolist() == [1]
    assert (found.pairs()[1] == 0).all()


def test_users_are_offered_in_parts():
    scores = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = Best(Hidden(np.array([True, False, False, False]), Histories.of([[3], [], [1, 2, 3]])), 2)
    found.offer(scores[1:], 1, 0)
    found.offer(scores[:1], 0, 0)
    np.testing.assert_array_equal(found.lists()[0], [[2, 1], [3, 2], [0, 0]])


@pytest.mark.parametrize("column", [0, 40, 130])
def test_a_score_that_is_no_number_is_refused(column):
    scores = np.zeros((2, 131), np.float32)
    scores[:, :100] = 5  # a full row, whose floor all else is below
    scores[1, column] = np.nan
    with pytest.raises(ContractViolation, match="NaN scores to 1 of 262"):
        Best(Hidden(np.zeros(131, bool), Histories.of([[], []])), 3).offer(scores, 0, 0)


@given(st.lists(st.tuples(floats, st.integers(1, 2**31 - 1)), min_size=2, max_size=30, unique=True))
def test_keys_are_in_the_order_of_the_lists(pairs):
    scores, items = (np.array(column) for column in zip(*pairs))
    keys = keys_of(items.astype(np.int32), scores.astype(np.float32))
    by_key = [pairs[i] for i in np.argsort(keys)[::-1]]
    assert [(s, i) for s, i in by_key] == sorted(pairs, key=lambda pair: (-pair[0], pair[1]))


def test_pairs_are_ranked_with_padding_last():
    items = np.array([[4, 0, 2, 9], [0, 0, 0, 0]], np.int32)
    scores = np.array([[1, 9, 1, -np.inf], [1, 1, 1, 1]], np.float32)
    found = rank_pairs(items, scores, 5)
    np.testing.assert_array_equal(found[0], [[2, 4, 0, 0, 0], [0] * 5])
    np.testing.assert_array_equal(found[1], [[1, 1, -np.inf, -np.inf, -np.inf], [-np.inf] * 5])
