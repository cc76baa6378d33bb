"""Compares training examples with a naive loop. Windows end with the newest item, and recency counts from it."""

import math

import numpy as np
import pytest

from recsys_spark.models.histories import RECENCY_BUCKETS, Histories
from recsys_spark.stages.features import examples
from recsys_spark.stages.features.examples import make_examples, shuffle_timeless


def random_histories(timed, seed=0):
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


def naive(histories, rows, positions, length, strictly_before=False):
    out = {"items": [], "weights": [], "history": [], "recency": []}
    for row, position in zip(rows.tolist(), positions.tolist()):
        start = histories.indptr[row]
        target = histories.times[start + position]
        before = [i for i in range(start, start + position) if not strictly_before or histories.times[i] < target]
        newest, window = histories.times[before[-1]], before[-length:]
        out["items"].append(histories.items[start + position])
        out["weights"].append(histories.weights[start + position])
        out["history"].append([0] * (length - len(window)) + [histories.items[i] for i in window])
        out["recency"].append([0] * (length - len(window)) + [bucket(newest - histories.times[i]) for i in window])
    return {k: np.array(v) for k, v in out.items()}


@pytest.mark.parametrize("length", [1, 4, 50])
@pytest.mark.parametrize("chunk", [3, 8192])
def test_equals_the_naive_loop(length, chunk, monkeypatch):
    monkeypatch.setattr(examples, "CHUNK", chunk)
    histories = random_histories(timed=True)
    rows, positions = every_position(histories)
    order = np.random.default_rng(1).permutation(len(rows))
    result = join(make_examples(histories, rows[order], positions[order], length))
    expected = naive(histories, rows[order], positions[order], length)
    for name, array in result.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.dtype == (np.float32 if name == "weights" else np.int32)


@pytest.mark.parametrize("length", [1, 4, 50])
def test_strictly_before_leaves_out_items_at_the_time_of_the_target(length):
    histories = random_histories(timed=True)
    histories.times[:] = histories.times // 3_000_000 + 1  # baskets of a few items
    rows, positions = every_position(histories)
    first_times = histories.times[histories.indptr[rows]]
    later = histories.times[histories.indptr[rows] + positions] > first_times
    assert 0 < later.sum() < len(rows)
    result = join(make_examples(histories, rows[later], positions[later], length, strictly_before=True))
    expected = naive(histories, rows[later], positions[later], length, strictly_before=True)
    for name, array in result.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_worked_example():
    histories = Histories.of([[7, 3, 9]], [[0, 3600, 3660]])
    (result,) = make_examples(histories, np.array([0, 0]), np.array([1, 2]), 3)
    assert result.items.tolist() == [3, 9]
    assert result.history.tolist() == [[0, 0, 7], [0, 7, 3]]
    # item 3 is the newest before item 9: gap 0 is bucket 1, 60 minutes are bucket 1 + floor(log2(61))
    assert result.recency.tolist() == [[0, 0, 1], [0, 1 + 5, 1]]


def test_training_and_scoring_see_the_same_window():
    """The window of an example equals `Histories.last` of the same user just before the target."""
    histories = random_histories(timed=True)
    rows, positions = every_position(histories)
    result = join(make_examples(histories, rows, positions, 6))
    for e, (row, position) in enumerate(zip(rows, positions)):
        user = slice(histories.indptr[row], histories.indptr[row] + position)
        items, recency = Histories.of([histories.items[user].tolist()], [histories.times[user].tolist()]).last(6)
        np.testing.assert_array_equal(result["history"][e], items[0])
        np.testing.assert_array_equal(result["recency"][e], recency[0])


@pytest.mark.parametrize("length", [1, 4, 50])
def test_without_times_the_window_is_a_sample_of_the_other_items(length):
    histories = shuffle_timeless(random_histories(timed=False), np.arange(5), seed=3)
    rows, positions = every_position(histories)
    result = join(make_examples(histories, rows, positions, length))
    for e, row in enumerate(rows):
        user_items = set(histories.items[histories.indptr[row] : histories.indptr[row + 1]].tolist())
        window = [i for i in result["history"][e].tolist() if i]
        assert len(window) == len(set(window)) == min(length, len(user_items) - 1)
        assert set(window) <= user_items - {result["items"][e]}
        assert result["recency"][e].tolist() == [0] * (length - len(window)) + [1] * len(window)


def test_the_order_without_times_depends_on_seed_and_user():
    histories = random_histories(timed=False)
    users = np.array([10, 11, 12, 13, 14])
    shuffled = shuffle_timeless(histories, users, seed=3)
    again = shuffle_timeless(histories.take(np.array([4])), users[4:], seed=3)
    last = slice(histories.indptr[4], histories.indptr[5])
    np.testing.assert_array_equal(again.items, shuffled.items[last])  # independent of the other users of the batch
    other = shuffle_timeless(histories, users, seed=4).items[last]
    moved = shuffle_timeless(histories, users + 1, seed=3).items[last]
    for different in (histories.items[last], other, moved):
        assert sorted(different) == sorted(shuffled.items[last])
        assert (different != shuffled.items[last]).any()


def test_users_with_times_keep_their_order():
    timed = random_histories(timed=True)
    shuffled = shuffle_timeless(timed, np.arange(5), seed=3)
    np.testing.assert_array_equal(shuffled.items, timed.items)


def test_without_times_every_item_is_equally_often_in_the_window():
    """Each of 40 items is in a window of 4 in about a tenth of the draws, whatever its number."""
    histories = Histories.of([list(range(1, 41))])
    counts = np.zeros(41)
    for seed in range(300):
        shuffled = shuffle_timeless(histories, np.array([0]), seed)
        (result,) = make_examples(shuffled, np.array([0]), np.array([39]), 4)
        counts[result.history[0]] += 1
    share = counts[1:] / 300
    assert share.mean() == pytest.approx(4 / 40)
    assert share.max() < 0.1 + 5 * math.sqrt(0.1 * 0.9 / 300)
    assert share.min() > 0.1 - 5 * math.sqrt(0.1 * 0.9 / 300)
