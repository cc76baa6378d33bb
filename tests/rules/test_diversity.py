"""Lists that are spread out, against a naive greedy choice over all pairs."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.metrics.categories import Categories
from recsys_spark.rules.diversity import POOL, Variety, spread_out

N_ITEMS = 80


def some_categories(rng, most=3):
    """Categories of each item by index; item 0 and some others have none."""
    return [[], *(rng.permutation(6)[: rng.integers(0, most + 1)].tolist() for _ in range(N_ITEMS - 1))]


def categories_of(lists):
    table = pa.table(
        {
            "item_idx": pa.array(range(len(lists)), pa.int32()),
            "categories": [[f"c{x}" for x in own] for own in lists],
        }
    )
    return Categories.of(table.slice(1).take(pa.array(range(len(lists) - 1))[::-1]), len(lists))


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
                full = cap and any(sum(c in own for own in listed) >= cap for c in lists[items[at]])
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
def test_equals_a_naive_choice(d, cap, with_vectors):
    rng = np.random.default_rng(3)
    lists, (items, scores) = some_categories(rng), candidates(rng)
    vectors = rng.normal(size=(N_ITEMS, 4)).astype(np.float32) if with_vectors else None
    variety = Variety(d, cap, categories_of(lists))
    columns, values = spread_out(items, scores, 6, variety, vectors)
    for user in range(len(items)):
        expected, worth = naive(items[user], scores[user], 6, d, cap, lists, vectors)
        found = columns[user][columns[user] >= 0].tolist()
        assert found == expected
        assert (columns[user, len(found) :] == -1).all() and np.isneginf(values[user, len(found) :]).all()
        np.testing.assert_allclose(values[user, : len(found)], worth, rtol=1e-6, atol=1e-6)
        assert (np.diff(values[user, : len(found)]) <= 0).all()
    if not cap:
        assert ((columns >= 0).sum(axis=1) == np.minimum(6, (items > 0).sum(axis=1))).all()


def test_off_it_is_the_blend_s_list():
    rng = np.random.default_rng(1)
    items, scores = candidates(rng)
    columns, values = spread_out(items, scores, 6, Variety(0.0, None, categories_of(some_categories(rng))), None)
    np.testing.assert_array_equal(np.where(columns >= 0, columns, np.arange(6)), np.tile(np.arange(6), (12, 1)))
    np.testing.assert_array_equal(values, scores[:, :6])


def test_a_cap_counts_an_item_for_each_of_its_categories():
    lists = [[], [0, 1], [0], [1], [2], []]
    items, scores = np.array([[1, 2, 3, 4, 5]], np.int32), np.array([[5, 4, 3, 2, 1]], np.float32)
    columns, values = spread_out(items, scores, 4, Variety(0.0, 1, categories_of(lists)), None)
    assert columns.tolist() == [[0, 3, 4, -1]]  # two and three stand behind one, in nobody's name
    assert values.tolist() == [[5, 2, 1, -np.inf]]


def test_a_cap_looks_further_down_until_the_list_is_full():
    """Everything in the first pool is of one category."""
    width = 40 * POOL
    lists = [[], *([0] for _ in range(width - 3)), [1], [2], [3]]
    items = np.arange(1, width + 1, dtype=np.int32)[None]
    scores = np.linspace(1, 0, width, dtype=np.float32)[None]
    columns, _ = spread_out(items, scores, 4, Variety(0.3, 1, categories_of(lists)), None)
    assert columns.tolist() == [[0, width - 3, width - 2, width - 1]]


def test_no_user_depends_on_another():
    rng = np.random.default_rng(5)
    lists, (items, scores) = some_categories(rng), candidates(rng)
    variety = Variety(0.4, 2, categories_of(lists))
    whole = spread_out(items, scores, 5, variety, None)
    for user in range(len(items)):
        for part, all_of_them in zip(
            spread_out(items[user : user + 1], scores[user : user + 1], 5, variety, None), whole
        ):
            np.testing.assert_array_equal(part[0], all_of_them[user])


def test_more_diversity_makes_lists_more_diverse():
    rng = np.random.default_rng(2)
    lists, (items, scores) = some_categories(rng), candidates(rng)
    told, near = categories_of(lists), []
    for d in (0.0, 0.2, 0.5, 0.9):
        columns, _ = spread_out(items[:3], scores[:3], 6, Variety(d, None, told), None)
        shown = np.take_along_axis(items[:3], columns, axis=1)
        near.append(sum(similarity(a, b, lists, None) for row in shown for n, a in enumerate(row) for b in row[:n]))
    assert near == sorted(near, reverse=True) and near[0] > 2 * near[-1]


def test_categories_by_index_ascending_once_each():
    table = pa.table(
        {"item_idx": pa.array([4, 1, 3, 9], pa.int32()), "categories": [["b", "a", "b"], ["a"], [], ["z"]]}
    )
    told = Categories.of(table, 6)
    assert told.indptr.tolist() == [0, 0, 1, 1, 1, 3, 3]
    own = [told.codes[told.indptr[i] : told.indptr[i + 1]].tolist() for i in range(6)]
    assert sorted(own[4]) == own[4] and len(own[4]) == 2 and set(own[1]) < set(own[4])
    assert told.count == 3


def test_nobody_and_nothing_are_fine():
    variety = Variety(0.3, 1, categories_of([[], [0]]))
    for shape in ((0, 3), (2, 0)):
        columns, values = spread_out(np.zeros(shape, np.int32), np.zeros(shape, np.float32), 3, variety, None)
        assert (columns == -1).all() and np.isneginf(values).all() and columns.shape == (shape[0], 3)
