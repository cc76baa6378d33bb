"""The feed has equal steps on all ranks, every example once an epoch, and batches that depend on (seed, epoch) only."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.models.histories import Histories
from recsys_spark.stages.features.shuffling import to_bytes
from recsys_spark.stages.train.feed import as_numbers, batch_plan, batches
from stages.train.synthetic_examples import write_features

GROUPS, LENGTH = 4, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """160 examples in four row groups, whose targets are all different."""
    folder = tmp_path_factory.mktemp("feed")
    histories = Histories.of([list(range(1, 163))], [list(range(60, 163 * 60, 60))])
    assert write_features(folder, histories, [200], n_items=201, length=LENGTH, row_groups=GROUPS) == 160
    return folder / "examples"


def epoch_of(folder, *, rank=0, size=1, batch=16, steps=None, seed=1, epoch=1):
    steps = 160 // size // batch if steps is None else steps
    return list(batches(folder, rank=rank, size=size, batch=batch, steps=steps, seed=seed, epoch=epoch))


def targets(epoch):
    return np.concatenate([b["item_idx"].numpy() for b in epoch])


@pytest.mark.parametrize(("size", "batch"), [(1, 16), (1, 40), (1, 64), (2, 16), (2, 30), (4, 7), (4, 40)])
def test_ranks_have_equal_steps_and_share_the_examples(folder, size, batch):
    epochs = [epoch_of(folder, rank=rank, size=size, batch=batch) for rank in range(size)]
    assert [len(epoch) for epoch in epochs] == [160 // size // batch] * size
    assert all(len(b["item_idx"]) == batch for epoch in epochs for b in epoch)
    seen = np.concatenate([targets(epoch) for epoch in epochs])
    assert len(set(seen.tolist())) == len(seen) == 160 // size // batch * batch * size


def test_columns_stay_together(folder):
    for batch in epoch_of(folder):
        for target, history, recency in zip(batch["item_idx"], batch["history"], batch["recency"]):
            # the history of item t is ..., t - 2, t - 1, a minute apart
            shown = [i for i in range(int(target) - LENGTH, int(target)) if i > 0]
            assert history.tolist() == [0] * (LENGTH - len(shown)) + shown
            assert recency[-1] == 1
        assert (batch["history"].shape, str(batch["history"].dtype)) == ((16, LENGTH), "torch.int32")


def test_the_same_seed_and_epoch_give_the_same_batches(folder):
    first, again = epoch_of(folder, epoch=3), epoch_of(folder, epoch=3)
    np.testing.assert_array_equal(targets(first), targets(again))
    for other in (epoch_of(folder, epoch=4), epoch_of(folder, epoch=3, seed=2)):
        assert (targets(first) != targets(other)).any()


def test_rows_are_shuffled_and_row_groups_reordered(folder):
    stored = np.concatenate([targets(epoch_of(folder, rank=r, size=4, batch=40)) for r in range(4)])
    firsts = set()
    for epoch in range(1, 9):
        seen = targets(epoch_of(folder, epoch=epoch, batch=40))
        group = {frozenset(stored[g * 40 : g * 40 + 40].tolist()): g for g in range(4)}
        firsts.add(group.get(frozenset(seen[:40].tolist()), -1))
    assert len(firsts) > 1
    one, other = (targets(epoch_of(folder, rank=0, size=4, batch=40, epoch=e)) for e in (1, 2))
    assert sorted(one) == sorted(other)
    assert (one != other).any()


def test_each_epoch_leaves_out_other_rows(folder):
    left = [frozenset(range(2, 163)) - set(targets(epoch_of(folder, batch=60, epoch=e)).tolist()) for e in range(1, 6)]
    assert len(set(left)) > 1


def test_a_reader_may_stop_early(folder):
    assert len(epoch_of(folder, steps=1)) == 1


@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_windows_are_read_from_bytes_as_by_a_plain_join(kind):
    matrix = np.arange(60).astype(kind).reshape(12, 5)
    column = to_bytes(matrix)
    for chunks in ([column], [column[3:7]], [column[:2], column[8:]]):
        rows = [bytes(value.as_py()) for chunk in chunks for value in chunk]
        expected = np.frombuffer(b"".join(rows), kind).reshape(-1, 5)
        found = as_numbers(pa.chunked_array(chunks), kind)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == kind


@pytest.mark.parametrize(
    ("examples", "workers", "batch_size", "expected"),
    [(1000, 1, 100, (10, 100)), (1000, 2, 100, (5, 100)), (999, 3, 100, (3, 100)), (8, 4, 100, (1, 2))],
)
def test_batch_plan_is_equal_on_all_ranks(examples, workers, batch_size, expected):
    assert batch_plan(examples, workers, batch_size) == expected


def test_reading_prints_no_warnings(folder):
    code = (
        "import pathlib; from recsys_spark.stages.train.feed import batches\n"
        f"print(len(list(batches(pathlib.Path({str(folder)!r}), rank=0, size=2, batch=8, steps=3, seed=1, epoch=1))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
    assert done.stderr == ""
