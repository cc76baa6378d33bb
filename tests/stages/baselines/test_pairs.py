"""The pairs on disk equal the matrix they came from, however they were batched, shuffled and cut into parts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import scipy.sparse as sp

from recsys_spark.stages.baselines import pairs as module
from recsys_spark.stages.baselines.pairs import ENTRY, ITEMS, USERS, Csr, join_pairs, pack, parts_for, write_pairs
from stages.baselines.local import put_pairs, random_matrix


@pytest.mark.parametrize("parts", [1, 3, 7, 64])
def test_both_sides_equal_the_matrix(tmp_path, parts):
    pairs = put_pairs(tmp_path / "pairs", random_matrix(), parts)
    for side, expected in ((USERS, random_matrix()), (ITEMS, random_matrix().T.tocsr())):
        expected.sort_indices()
        csr = pairs.csr(side)
        assert csr.indptr.tolist() == expected.indptr.tolist()
        assert csr.indices.tolist() == expected.indices.tolist()
        np.testing.assert_array_equal(csr.weights, expected.data)
        assert [array.dtype for array in csr] == [np.int64, np.int32, np.float32]
        degrees = np.diff(expected.indptr)
        assert pairs.degrees(side).tolist() == degrees.tolist()
        assert pairs.active[side] == np.count_nonzero(degrees)
    assert pairs.rows == {USERS: 50, ITEMS: 30}
    assert pairs.count == random_matrix().nnz


def test_no_pairs_at_all(tmp_path):
    pairs = put_pairs(tmp_path / "pairs", sp.csr_matrix((4, 3), dtype=np.float32), 2)
    assert (pairs.count, pairs.active) == (0, {USERS: 0, ITEMS: 0})
    assert pairs.csr(USERS).indptr.tolist() == [0] * 5
    assert len(pairs.csr(ITEMS).indices) == len(pairs.csr(ITEMS).weights) == 0


@pytest.mark.parametrize("size, at_a_time, parcel", [(7, 1, 1), (50, 64, 3), (1000, 1 << 20, 1 << 10)])
def test_batches_and_parcels_change_no_byte(tmp_path, monkeypatch, size, at_a_time, parcel):
    monkeypatch.setattr(module, "PAIRS", at_a_time)
    monkeypatch.setattr(module, "_PARCEL", parcel)
    cells = random_matrix().tocoo()
    order = np.random.default_rng(0).permutation(cells.nnz)
    columns = cells.row.astype(np.int32), cells.col.astype(np.int32), cells.data
    table = pa.table([pa.array(column[order]) for column in columns], ["user", "item", "weight"])
    rows = {USERS: 50, ITEMS: 30}
    parcels = pa.Table.from_batches(pack(table.to_batches(size), 3, rows))
    assert max(len(value.as_buffer()) for value in parcels["entries"]) <= parcel * ENTRY.itemsize
    (tmp_path / "packed").mkdir()
    for part in range(6):
        own = parcels.filter(pc.equal(parcels["part"], part))
        module._write_parcels(own, folder=tmp_path / "packed", parts=3, rows=rows)
    join_pairs(tmp_path / "packed", range(6), 3, rows)
    assert same_arrays(tmp_path / "packed", put_pairs(tmp_path / "expected", random_matrix(), 3).folder)


def same_arrays(folder: Path, expected: Path) -> bool:
    names = [f"{side}.{part}.npy" for side in (USERS, ITEMS) for part in Csr._fields]
    return all((folder / name).read_bytes() == (expected / name).read_bytes() for name in names)


def test_spark_writes_the_same_arrays(spark, tmp_path):
    dense = random_matrix(n_users=20, n_items=12).toarray()
    dense[:7] = 0  # leaves a part of the users without pairs
    matrix = sp.csr_matrix(dense)
    entries = matrix.tocoo()
    rows = [(int(u), int(i), float(w)) for u, i, w in zip(entries.row, entries.col, entries.data, strict=True)]
    folds = spark.createDataFrame(rows[::-1], "user_idx bigint, item_idx int, weight float")
    pairs = write_pairs(folds, tmp_path / "spark", parts=4, n_users=20, n_items=12)
    expected = put_pairs(tmp_path / "local", matrix, 4)
    assert (pairs.rows, pairs.active, pairs.count) == (expected.rows, expected.active, expected.count)
    assert same_arrays(pairs.folder, expected.folder)


def test_there_are_as_many_parts_as_cores_unless_parts_would_be_large():
    assert parts_for(0, cores=2, maximum=8) == parts_for(2 << 20, cores=2, maximum=8) == 2
    assert parts_for((2 << 20) + 1, cores=2, maximum=8) == 3
    assert parts_for(1 << 40, cores=2, maximum=8) == 8
    assert parts_for(100, cores=64, maximum=8) == 8
