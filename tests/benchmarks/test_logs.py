"""Generated logs have the documented sizes, distributions and order. The stages can read their tables."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import logs

SHAPE = logs.Shape(users=3000, items=2000, events=60_000, seed=3)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(logs, "CHUNK", 10_000)


def test_pairs_are_distinct_and_ordered_by_user_and_time():
    pairs = logs.concatenate(SHAPE.pairs_by_user())
    keys = pairs.users * 10_000 + pairs.items
    assert len(np.unique(keys)) == len(pairs) == pytest.approx(60_000, rel=0.01)
    assert np.all((np.diff(pairs.users) > 0) | ((np.diff(pairs.users) == 0) & (np.diff(pairs.times) >= 0)))
    assert np.array_equal(np.unique(pairs.users), np.arange(3000))
    assert pairs.items.min() >= 1
    assert pairs.items.max() <= 2000


def test_the_items_of_a_user_are_not_ordered_by_popularity():
    pairs = logs.concatenate(SHAPE.pairs_by_user())
    degrees = np.bincount(pairs.items)
    lengths = np.bincount(pairs.users)
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    assert abs(np.corrcoef(place / lengths[pairs.users], degrees[pairs.items])[0, 1]) < 0.02


def test_each_user_is_in_one_chunk_and_a_full_last_chunk_is_kept(monkeypatch):
    for size in (10_000, int(SHAPE._degrees().sum())):
        monkeypatch.setattr(logs, "CHUNK", size)
        users = np.concatenate([np.unique(chunk.users) for chunk in SHAPE.pairs_by_user()])
        assert np.array_equal(users, np.arange(3000))


def test_all_events_come_in_the_order_of_time():
    events = logs.concatenate(SHAPE.events_by_time())
    assert len(events) == 60_000
    assert np.all(np.diff(events.times) >= 0)
    day = (events.times - logs.START) // 86_400
    assert day.min() == 0
    assert day.max() == logs.DAYS - 1
    hours = np.bincount(events.times // 3600 % 24)
    assert hours.argmin() in (3, 4, 5)
    assert hours.argmax() in (15, 16, 17)


@pytest.mark.parametrize("side, law", [("users", logs.USER_LAW), ("items", logs.ITEM_LAW)])
def test_degrees_follow_the_documented_distribution(side, law):
    exponent, offset = law
    events = logs.generate(3000, 3000, 3_000_000, seed=1)
    degrees = np.sort(np.bincount(getattr(events, side))[-3000:])[::-1]
    ranks = np.arange(1, 3001)
    expected = (ranks + offset) ** -exponent
    expected *= len(events) / expected.sum()
    # ranks are drawn by the integral of the distribution, which differs from its sum by less than this
    assert np.abs(degrees / expected - 1)[:2000].max() < 0.15


def test_equal_shapes_give_equal_logs():
    one, same, other = (logs.generate(300, 200, 5_000, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.items, same.items)
    assert not np.array_equal(one.items, other.items)


def test_gowalla_and_parquet_logs_are_read_as_pairs_from_0_and_1(tmp_path):
    with gzip.open(tmp_path / "train.txt.gz", "wt") as file:
        file.write("0 4 2\n1 0\n2 4 0 1\n")
    pairs = logs.read_pairs(tmp_path)
    assert list(zip(pairs.users, pairs.items)) == [(0, 3), (0, 5), (1, 1), (2, 1), (2, 2), (2, 5)]
    logs.write_log(tmp_path / "log", [pairs, pairs])
    again = logs.read_pairs(tmp_path / "log")
    # numbered by first appearance: 3 5 1 2
    assert list(zip(again.users, again.items)) == [(0, 1), (0, 2), (1, 3), (2, 2), (2, 3), (2, 4)]


def test_histories_and_folds_hold_the_pairs(tmp_path):
    pairs = logs.concatenate(SHAPE.pairs_by_user())
    assert logs.write_histories(tmp_path / "histories", SHAPE.pairs_by_user()) == 3000
    assert logs.write_folds(tmp_path / "folds", SHAPE.pairs_by_user()) == len(pairs)
    histories = ds.dataset(tmp_path / "histories").to_table().sort_by("user_idx").combine_chunks()
    assert np.array_equal(np.asarray(histories["item_idx"].chunk(0).flatten()), pairs.items)
    assert np.array_equal(np.asarray(histories["event_ts"].chunk(0).flatten()), pairs.times)
    folds = ds.dataset(tmp_path / "folds").to_table()
    assert np.array_equal(folds["item_idx"].to_numpy(), pairs.items)
