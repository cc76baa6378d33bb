import numpy as np
import pytest
import scipy.sparse as sp

from baselines.local import put_pairs, random_matrix
from recsys_spark.baselines.blocks import ITEMS, USERS, Shards, save_array, write_pairs


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


def test_degrees_and_rows_in_any_order(pairs):
    matrix = random_matrix()
    assert pairs.item_degrees().tolist() == np.diff(matrix.tocsc().indptr).tolist()
    rows = np.array([4, 49, 3, 0, 4])
    assert pairs.side(USERS).degrees(rows).tolist() == np.diff(matrix.indptr)[rows].tolist()
    indptr, indices = pairs.side(USERS).take(rows)
    assert indptr.tolist() == matrix[rows].indptr.tolist()
    assert indices.tolist() == matrix[rows].indices.tolist()


def test_no_rows_at_all(pairs):
    indptr, indices = pairs.side(USERS).take(np.empty(0, np.int64))
    assert (indptr.tolist(), len(indices)) == ([0], 0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_shards_gather_rows(tmp_path, n):
    array = np.random.default_rng(0).random((11, 3), np.float32)
    paths = [tmp_path / f"{shard}.npy" for shard in range(n)]
    for shard, path in enumerate(paths):
        save_array(path, array[shard::n])
    rows = np.array([10, 0, 3, 3, 7])
    assert Shards(paths).shape == (11, 3)
    np.testing.assert_array_equal(Shards(paths)[rows], array[rows])


def test_an_array_is_replaced_as_a_whole(tmp_path):
    save_array(tmp_path / "a.npy", np.zeros(3))
    save_array(tmp_path / "a.npy", np.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert np.load(tmp_path / "a.npy").tolist() == [1, 1]


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
    names = sorted(path.name for path in expected.folder.iterdir())
    assert sorted(path.name for path in found.folder.iterdir()) == names
    assert all((found.folder / name).read_bytes() == (expected.folder / name).read_bytes() for name in names)
