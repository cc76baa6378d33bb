"""Examples against a naive loop: what stands before the target, newest last, with recency counted from the newest."""

import math

import numpy as np
import pytest

from recsys_spark.models.histories import RECENCY_BUCKETS, Histories
from recsys_spark.stages.features import examples
from recsys_spark.stages.features.examples import make_examples, shuffle_timeless


def some_histories(timed, seed=0):
    rng = np.random.default_rng(seed)
    lengths = [2, 9, 1, 5, 30]
    lists = [rng.permutation(np.arange(1, 60))[:n].tolist() for n in lengths]
    times = [np.sort(rng.integers(1, 10**7, n)).tolist() if timed else [0] * n for n in lengths]
    return Histories.of(lists, times, [rng.uniform(1, 5, n).tolist() for n in lengths])


def every_position(histories):
    pairs = [(u, p) for u, n in enumerate(histories.lengths()) for p in range(1, n)]
    return np.array([u for u, _ in pairs]), np.array([p for _, p in pairs])


def join(parts):
    parts = list(parts)
    return {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("items", "weights", "history", "recency")}


def bucket(gap):
    return 1 + min(int(math.log2(1 + gap // 60)), RECENCY_BUCKETS - 2)


def naive(histories, rows, positions, length, earlier=False):
    out = {"items": [], "weights": [], "history": [], "recency": []}
    for row, position in zip(rows.tolist(), positions.tolist()):
        start = histories.indptr[row]
        target = histories.times[start + position]
        known = [i for i in range(start, start + position) if not earlier or histories.times[i] < target]
        newest, before = histories.times[known[-1]], known[-length:]
        out["items"].append(histories.items[start + position])
        out["weights"].append(histories.weights[start + position])
        out["history"].append([0] * (length - len(before)) + [histories.items[i] for i in before])
        out["recency"].append([0] * (length - len(before)) + [bucket(newest - histories.times[i]) for i in before])
    return {k: np.array(v) for k, v in out.items()}


@pytest.mark.parametrize("length", [1, 4, 50])
@pytest.mark.parametrize("chunk", [3, 8192])
def test_equals_the_naive_loop(length, chunk, monkeypatch):
    monkeypatch.setattr(examples, "CHUNK", chunk)
    histories = some_histories(timed=True)
    rows, positions = every_position(histories)
    order = np.random.default_rng(1).permutation(len(rows))
    found = join(make_examples(histories, rows[order], positions[order], length))
    expected = naive(histories, rows[order], positions[order], length)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.dtype == (np.float32 if name == "weights" else np.int32)


@pytest.mark.parametrize("length", [1, 4, 50])
def test_of_the_target_s_own_moment_nothing_is_known(length):
    histories = some_histories(timed=True)
    histories.times[:] = histories.times // 3_000_000 + 1  # baskets of a few
    rows, positions = every_position(histories)
    begin = histories.times[histories.indptr[rows]]
    later = histories.times[histories.indptr[rows] + positions] > begin
    assert 0 < later.sum() < len(rows)
    found = join(make_examples(histories, rows[later], positions[later], length, earlier=True))
    expected = naive(histories, rows[later], positions[later], length, earlier=True)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_worked_example():
    histories = Histories.of([[7, 3, 9]], [[0, 3600, 3660]])
    (found,) = make_examples(histories, np.array([0, 0]), np.array([1, 2]), 3)
    assert found.items.tolist() == [3, 9]
    assert found.history.tolist() == [[0, 0, 7], [0, 7, 3]]
    # item 3 is the newest before item 9: gap 0 is bucket 1, 60 minutes are bucket 1 + floor(log2(61))
    assert found.recency.tolist() == [[0, 0, 1], [0, 1 + 5, 1]]


def test_history_of_an_example_is_what_scoring_would_see():
    """An example's window is the window that `Histories.last` gives the same user before the target."""
    histories = some_histories(timed=True)
    rows, positions = every_position(histories)
    found = join(make_examples(histories, rows, positions, 6))
    for e, (row, position) in enumerate(zip(rows, positions)):
        user = slice(histories.indptr[row], histories.indptr[row] + position)
        items, recency = Histories.of([histories.items[user].tolist()], [histories.times[user].tolist()]).last(6)
        np.testing.assert_array_equal(found["history"][e], items[0])
        np.testing.assert_array_equal(found["recency"][e], recency[0])


@pytest.mark.parametrize("length", [1, 4, 50])
def test_without_times_the_history_is_the_other_items(length):
    histories = shuffle_timeless(some_histories(timed=False), np.arange(5), seed=3)
    rows, positions = every_position(histories)
    found = join(make_examples(histories, rows, positions, length))
    for e, row in enumerate(rows):
        own = set(histories.items[histories.indptr[row] : histories.indptr[row + 1]].tolist())
        shown = [i for i in found["history"][e].tolist() if i]
        assert len(shown) == len(set(shown)) == min(length, len(own) - 1)
        assert set(shown) <= own - {found["items"][e]}
        assert found["recency"][e].tolist() == [0] * (length - len(shown)) + [1] * len(shown)


def test_order_without_times_is_drawn_from_seed_and_user():
    histories = some_histories(timed=False)
    users = np.array([10, 11, 12, 13, 14])
    shuffled = shuffle_timeless(histories, users, seed=3)
    again = shuffle_timeless(histories.take(np.array([4])), users[4:], seed=3)
    last = slice(histories.indptr[4], histories.indptr[5])
    np.testing.assert_array_equal(again.items, shuffled.items[last])  # whatever users stand beside
    other = shuffle_timeless(histories, users, seed=4).items[last]
    moved = shuffle_timeless(histories, users + 1, seed=3).items[last]
    for different in (histories.items[last], other, moved):
        assert sorted(different) == sorted(shuffled.items[last])
        assert (different != shuffled.items[last]).any()


def test_users_with_times_keep_their_order():
    timed = some_histories(timed=True)
    shuffled = shuffle_timeless(timed, np.arange(5), seed=3)
    np.testing.assert_array_equal(shuffled.items, timed.items)


def test_every_item_of_a_timeless_user_is_equally_often_near():
    """Each of 40 items stands among the 4 shown in about a tenth of the draws: the sample does not favour low or high item numbers."""
    histories = Histories.of([list(range(1, 41))])
    seen = np.zeros(41)
    for seed in range(300):
        shuffled = shuffle_timeless(histories, np.array([0]), seed)
        (found,) = make_examples(shuffled, np.array([0]), np.array([39]), 4)
        seen[found.history[0]] += 1
    share = seen[1:] / 300
    assert share.mean() == pytest.approx(4 / 40)
    assert share.max() < 0.1 + 5 * math.sqrt(0.1 * 0.9 / 300)
    assert share.min() > 0.1 - 5 * math.sqrt(0.1 * 0.9 / 300)
