"""Diversified lists against a naive greedy choice over all pairs."""

import numpy as np
import pytest

from fusion.synthetic_sample import categories_of
from recsys_spark.rules.diversity import POOL, Diversification, diversify

N_ITEMS = 80


def some_categories(rng, most=3):
    """Categories of each item by index; item 0 and some others have none."""
    return [[], *(rng.permutation(6)[: rng.integers(0, most + 1)].tolist() for _ in range(N_ITEMS - 1))]


def candidates(rng, users=12, width=60):
    """Falling scores with ties, rows of unequal length."""
    items = np.stack([1 + rng.permutation(N_ITEMS - 1)[:width] for _ in range(users)]).astype(np.int32)
    scores = -np.sort(-np.round(rng.normal(size=items.shape), 1).astype(np.float32), axis=1)
    for user in range(users):
        keep = width if user < 3 else int(rng.integers(0, width))
        items[user, keep:], scores[user, keep:] = 0, -np.inf
    return items, scores


def similarity(a, b, lists, vectors):
    one, other = set(lists[a]), set(lists[b])
    if one and other:
        return len(one & other) / len(one | other)
    if vectors is None:
        return 0.0
    x, y = vectors[a].astype(float), vectors[b].astype(float)
    return max(0.0, float(x @ y / np.sqrt((x @ x) * (y @ y))))


def naive(items, scores, n, d, cap, lists, vectors):
    """Columns and values of one user's list."""
    real = int(np.count_nonzero(items))
    pool = min(POOL * n, real)
    while True:
        chosen, values = [], []
        spread = float(scores[0]) - float(scores[pool - 1]) if pool else 0
        while len(chosen) < n:
            best = None
            for at in range(pool):
                listed = [set(lists[items[x]]) for x in chosen]
                full = cap and any(sum(c in codes for codes in listed) >= cap for c in lists[items[at]])
                if at in chosen or full:
                    continue
                near = max((similarity(items[at], items[x], lists, vectors) for x in chosen), default=0)
                value = (1 - d) * float(scores[at]) - d * spread * near
                if best is None or value > best[0] + 1e-12:
                    best = value, at
            if best is None:
                break
            values.append(best[0])
            chosen.append(best[1])
        if len(chosen) == n or pool == real:
            return chosen, values
        pool = min(2 * pool, real)


@pytest.mark.parametrize("d", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("cap", [None, 1, 2])
@pytest.mark.parametrize("with_vectors", [True, False])
def test_lists_equal_a_naive_choice(d, cap, with_vectors):
    rng = np.random.default_rng(3)
    lists, (items, scores) = some_categories(rng), candidates(rng)
    vectors = rng.normal(size=(N_ITEMS, 4)).astype(np.float32) if with_vectors else None
    settings = Diversification(d, cap, categories_of(lists))
    columns, values = diversify(items, scores, 6, settings, vectors)
    for user in range(len(items)):
        expected, expected_values = naive(items[user], scores[user], 6, d, cap, lists, vectors)
        length = len(expected)
        assert columns[user].tolist() == expected + [-1] * (6 - length)
        assert np.isneginf(values[user, length:]).all()
        np.testing.assert_allclose(values[user, :length], expected_values, rtol=1e-6, atol=1e-6)
        assert (np.diff(values[user, :length]) <= 0).all()
    if not cap:
        assert ((columns >= 0).sum(axis=1) == np.minimum(6, (items > 0).sum(axis=1))).all()


def test_without_diversity_and_maximum_lists_do_not_change():
    rng = np.random.default_rng(1)
    items, scores = candidates(rng)
    columns, values = diversify(items, scores, 6, Diversification(0.0, None, categories_of(some_categories(rng))), None)
    np.testing.assert_array_equal(np.where(columns >= 0, columns, np.arange(6)), np.tile(np.arange(6), (12, 1)))
    np.testing.assert_array_equal(values, scores[:, :6])


def test_the_maximum_counts_an_item_for_each_of_its_categories():
    lists = [[], [0, 1], [0], [1], [2], []]
    items, scores = np.array([[1, 2, 3, 4, 5]], np.int32), np.array([[5, 4, 3, 2, 1]], np.float32)
    columns, values = diversify(items, scores, 4, Diversification(0.0, 1, categories_of(lists)), None)
    assert columns.tolist() == [[0, 3, 4, -1]]  # items 2 and 3 share a category with item 1; item 5 has none
    assert values.tolist() == [[5, 2, 1, -np.inf]]


def test_the_pool_grows_until_the_list_is_full():
    """All items in the first pool have one category."""
    width = 40 * POOL
    lists = [[], *([0] for _ in range(width - 3)), [1], [2], [3]]
    items = np.arange(1, width + 1, dtype=np.int32)[None]
    scores = np.linspace(1, 0, width, dtype=np.float32)[None]
    columns, _ = diversify(items, scores, 4, Diversification(0.3, 1, categories_of(lists)), None)
    assert columns.tolist() == [[0, width - 3, width - 2, width - 1]]


def test_no_user_depends_on_another():
    rng = np.random.default_rng(5)
    lists, (items, scores) = some_categories(rng), candidates(rng)
    settings = Diversification(0.4, 2, categories_of(lists))
    whole = diversify(items, scores, 5, settings, None)
    for user in range(len(items)):
        for part, all_users in zip(
            diversify(items[user : user + 1], scores[user : user + 1], 5, settings, None), whole
        ):
            np.testing.assert_array_equal(part[0], all_users[user])


def test_more_diversity_makes_lists_more_diverse():
    rng = np.random.default_rng(2)
    lists, (items, scores) = some_categories(rng), candidates(rng)
    categories, near = categories_of(lists), []
    for d in (0.0, 0.2, 0.5, 0.9):
        columns, _ = diversify(items[:3], scores[:3], 6, Diversification(d, None, categories), None)
        shown = np.take_along_axis(items[:3], columns, axis=1)
        near.append(sum(similarity(a, b, lists, None) for row in shown for n, a in enumerate(row) for b in row[:n]))
    assert near == sorted(near, reverse=True) and near[0] > 2 * near[-1]


def test_no_users_or_no_candidates_give_empty_lists():
    settings = Diversification(0.3, 1, categories_of([[], [0]]))
    for shape in ((0, 3), (2, 0)):
        columns, values = diversify(np.zeros(shape, np.int32), np.zeros(shape, np.float32), 3, settings, None)
        assert (columns == -1).all() and np.isneginf(values).all() and columns.shape == (shape[0], 3)
