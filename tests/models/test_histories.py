import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.models.histories import RECENCY_BUCKETS, Histories, recency_buckets

LISTS = [[3, 1], [], [2, 4, 1, 5], [7]]
TIMES = [[0, 60], [], [0, 600, 600, 7200], [5]]
WEIGHTS = [[1.0, 2.0], [], [0.5, 1.5, 2.5, 3.5], [4.0]]


@pytest.fixture
def histories():
    return Histories.of(LISTS, TIMES, WEIGHTS)


def lists(histories: Histories) -> list[list[int]]:
    return [histories.items[a:b].tolist() for a, b in zip(histories.indptr[:-1], histories.indptr[1:])]


def arrow() -> pa.RecordBatch:
    columns = {
        "user_idx": pa.array([10, 11, 12, 13], pa.int64()),
        "item_idx": pa.array(LISTS, pa.list_(pa.int32())),
        "event_ts": pa.array(TIMES, pa.list_(pa.int64())),
        "weight": pa.array(WEIGHTS, pa.list_(pa.float32())),
        "segment": pa.array(["a", None, "b", "a"]),
    }
    return pa.RecordBatch.from_pydict(columns)


def test_of_lists(histories):
    assert len(histories) == 4
    assert lists(histories) == LISTS
    assert histories.lengths().tolist() == [2, 0, 4, 1]
    assert (histories.indptr.dtype, histories.items.dtype, histories.times.dtype) == (
        np.int64,
        np.int32,
        np.int64,
    )
    assert Histories.of(LISTS).weights.tolist() == [1.0] * 7


@pytest.mark.parametrize("start, stop", [(0, 4), (1, 3), (2, 4), (3, 4), (1, 1)])
def test_from_arrow_also_of_a_slice(start, stop):
    found = Histories.from_arrow(arrow().slice(start, stop - start))
    assert found.indptr[0] == 0
    assert lists(found) == LISTS[start:stop]
    assert found.times.tolist() == [t for row in TIMES[start:stop] for t in row]
    assert found.weights.tolist() == [w for row in WEIGHTS[start:stop] for w in row]
    assert found.segments == ["a", None, "b", "a"][start:stop]


def test_from_arrow_of_a_table_of_several_chunks_and_of_none():
    both = pa.Table.from_batches([arrow(), arrow().slice(2, 1)])
    assert lists(Histories.from_arrow(both)) == [*LISTS, LISTS[2]]
    assert lists(Histories.from_arrow(pa.Table.from_batches([], arrow().schema))) == []


def test_rows_take_and_batches(histories):
    assert lists(histories.rows(1, 3)) == LISTS[1:3]
    assert lists(histories.rows(2, 99)) == LISTS[2:]
    taken = histories.take(np.array([3, 2, 2, 1]))
    assert lists(taken) == [LISTS[3], LISTS[2], LISTS[2], []]
    assert taken.times.tolist() == [5, 0, 600, 600, 7200, 0, 600, 600, 7200]
    assert lists(histories.take(np.array([], np.int64))) == []
    assert [lists(batch) for batch in histories.batches(3)] == [LISTS[:3], LISTS[3:]]


def test_choices_are_ones_whatever_the_weights(histories):
    dense = histories.rows(1, 4).choices(8).toarray()
    assert dense.shape == (3, 8)
    assert dense[1].tolist() == [0, 1, 1, 0, 1, 1, 0, 0]


def test_last_is_right_aligned_and_padded(histories):
    items, recency = histories.last(3)
    assert items.tolist() == [[0, 3, 1], [0, 0, 0], [4, 1, 5], [0, 0, 7]]
    # gaps to the newest: 60 s is 1 minute, 6600 s are 110 minutes
    far = 1 + int(np.log2(1 + 110))
    assert recency.tolist() == [[0, 1 + 1, 1], [0, 0, 0], [far, far, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    "seconds, bucket",
    [
        (-5, 1),
        (0, 1),
        (59, 1),
        (60, 2),
        (60 * 2, 2),
        (60 * 3, 3),
        (60 * (2**10 - 1), 11),
        (10**12, RECENCY_BUCKETS - 1),
    ],
)
def test_recency_buckets(seconds, bucket):
    assert recency_buckets(np.array([seconds])).tolist() == [bucket]
