from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import scipy.sparse as sp

from recsys_spark.stages.baselines import blocks
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Shards, blocks_for, save_array, write_pairs
from recsys_spark.stages.baselines.rows import row_of, vector_of, weights_of
from stages.baselines.local import put_pairs, random_matrix


@pytest.fixture(params=[1, 3, 7, 64], ids="{} blocks".format)
def pairs(request, tmp_path):
    return put_pairs(tmp_path / "pairs", random_matrix(), request.param)


def test_every_row_stands_in_its_block(pairs):
    for side, matrix in ((USERS, random_matrix()), (ITEMS, random_matrix().T.tocsr())):
        for block in range(pairs.blocks):
            csr, expected = pairs.block(side, block), matrix[block :: pairs.blocks]
            expected.sort_indices()
            assert csr.indptr.tolist() == expected.indptr.tolist()
            assert csr.indices.tolist() == expected.indices.tolist()
            np.testing.assert_array_equal(csr.weights, expected.data)


def test_degrees(pairs):
    assert pairs.degrees(ITEMS).tolist() == np.diff(random_matrix().tocsc().indptr).tolist()
    assert pairs.degrees(USERS).tolist() == np.diff(random_matrix().indptr).tolist()


def test_compiled_loops_find_every_row(pairs):
    for name, matrix in ((USERS, random_matrix()), (ITEMS, random_matrix().T.tocsr())):
        side = pairs.side(name)
        for row in range(matrix.shape[0]):
            own = matrix[row].sorted_indices()
            assert row_of(side.starts, row).tolist() == own.indices.tolist()
            assert weights_of(side.starts, row).tolist() == own.data.tolist()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_shards_gather_rows(tmp_path, n):
    array = np.random.default_rng(0).random((11, 3), np.float32)
    paths = [tmp_path / f"{shard}.npy" for shard in range(n)]
    for shard, path in enumerate(paths):
        save_array(path, array[shard::n])
    rows = np.array([10, 0, 3, 3, 7])
    assert Shards(paths).shape == (11, 3)
    shards = Shards(paths)
    np.testing.assert_array_equal(shards[rows], array[rows])
    np.testing.assert_array_equal([vector_of(shards.starts, row, 3) for row in rows], array[rows])


def test_an_array_is_replaced_as_a_whole(tmp_path):
    save_array(tmp_path / "a.npy", np.zeros(3))
    save_array(tmp_path / "a.npy", np.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert np.load(tmp_path / "a.npy").tolist() == [1, 1]


@pytest.mark.parametrize("size, pairs, parcel", [(7, 1, 1), (50, 64, 3), (1000, 1 << 20, 1 << 10)])
def test_no_byte_depends_on_batches_and_parcels(tmp_path, monkeypatch, size, pairs, parcel):
    monkeypatch.setattr(blocks, "PAIRS", pairs)
    monkeypatch.setattr(blocks, "_PARCEL", parcel)
    cells = random_matrix().tocoo()
    order = np.random.default_rng(0).permutation(cells.nnz)
    columns = cells.row.astype(np.int32), cells.col.astype(np.int32), cells.data
    table = pa.table([pa.array(column[order]) for column in columns], ["user", "item", "weight"])
    parcels = pa.Table.from_batches(blocks.pack(iter(table.to_batches(size)), 3))
    assert max(len(value.as_buffer()) for value in parcels["entries"]) <= parcel * blocks.ENTRY.itemsize
    (tmp_path / "found").mkdir()
    rows = {USERS: 50, ITEMS: 30}
    for part in range(6):
        mine = parcels.filter(pc.equal(parcels["part"], part))
        blocks._write_part(mine, folder=tmp_path / "found", blocks=3, rows=rows)
    assert same_files(tmp_path / "found", put_pairs(tmp_path / "expected", random_matrix(), 3).folder)


def same_files(found: Path, expected: Path) -> bool:
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in found.iterdir()) == names
    return all((found / name).read_bytes() == (expected / name).read_bytes() for name in names)


def test_spark_writes_the_same_blocks(spark, tmp_path):
    dense = random_matrix(n_users=20, n_items=12).toarray()
    dense[::4] = 0  # leaves a block of users without pairs
    matrix = sp.csr_matrix(dense)
    entries = matrix.tocoo()
    rows = [(int(u), int(i), float(w)) for u, i, w in zip(entries.row, entries.col, entries.data)]
    folds = spark.createDataFrame(rows[::-1], "user_idx bigint, item_idx int, weight float")
    found = write_pairs(folds, tmp_path / "spark", blocks=4, n_users=20, n_items=12)
    expected = put_pairs(tmp_path / "local", matrix, 4)
    assert (found.rows, found.active, found.pairs) == (expected.rows, expected.active, expected.pairs)
    assert same_files(found.folder, expected.folder)


def test_blocks_are_as_many_as_cores_until_they_would_be_large():
    assert blocks_for(0, cores=2, most=8) == blocks_for(2 << 20, cores=2, most=8) == 2
    assert blocks_for((2 << 20) + 1, cores=2, most=8) == 3
    assert blocks_for(1 << 40, cores=2, most=8) == 8
    assert blocks_for(100, cores=64, most=8) == 8
