"""Rows are divided among tasks, tasks run, and their parts are joined."""

import sys
from zipfile import ZipFile
from zipimport import zipimporter

import numpy as np
import pytest

from recsys_spark.stages.baselines import parts
from recsys_spark.stages.baselines.parts import even_ranges, join, part_path, whole_file
from stages.baselines.local import Tasks


def test_ranges_hold_all_rows_and_about_the_same_number_of_pairs():
    degrees = np.random.default_rng(0).integers(0, 50, 400).cumsum()
    ranges = even_ranges(degrees, 5)
    assert [start for start, _ in ranges[1:]] == [stop for _, stop in ranges[:-1]]
    assert (ranges[0][0], ranges[-1][1], len(ranges)) == (0, 400, 5)
    shares = [degrees[start:stop].sum() / degrees.sum() for start, stop in ranges]
    assert 0.19 < min(shares) <= max(shares) < 0.21


def test_a_row_with_most_pairs_leaves_fewer_ranges():
    assert even_ranges(np.array([0, 1, 97, 1, 1]), 5) == [(0, 2), (2, 5)]
    assert even_ranges(np.zeros(3, np.int64), 5) == [(0, 3)]


def put_parts(folder, array: np.ndarray, starts: list[int]) -> None:
    for start, stop in zip(starts, [*starts[1:], len(array)], strict=True):
        with whole_file(part_path(folder, "x", start)) as file:
            file.write(array[start:stop])


@pytest.mark.parametrize("chunk", [1, 4, 7, 1 << 20])
@pytest.mark.parametrize("starts", [[0], [0, 3, 10]])
def test_joined_parts_equal_the_array(tmp_path, monkeypatch, chunk, starts):
    monkeypatch.setattr(parts, "_CHUNK", max(chunk, 3))
    array = np.random.default_rng(0).random((11, 3), np.float32)
    put_parts(tmp_path, array, starts)
    np.testing.assert_array_equal(join(tmp_path, "x", starts, np.float32, 3), array)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
    turned = array[:, ::-1]
    put_parts(tmp_path, array, starts)
    np.testing.assert_array_equal(join(tmp_path, "x", starts, np.float32, 3, lambda rows: rows[:, ::-1]), turned)
    put_parts(tmp_path, array[:, 0].copy(), starts)
    np.testing.assert_array_equal(join(tmp_path, "x", starts, np.float32), array[:, 0])


def test_no_parts_join_to_an_empty_array(tmp_path):
    assert join(tmp_path, "x", [], np.int32).shape == (0,)
    assert join(tmp_path, "y", [], np.float32, 4).shape == (0, 4)


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "x"
    with whole_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"sec")
        raise RuntimeError
    assert path.read_bytes() == b"first"


def test_a_task_leaves_no_archive_in_the_import_cache_and_modules_can_still_be_imported(tmp_path, monkeypatch):
    with ZipFile(tmp_path / "modules.zip", "w") as archive:
        for name in ("first_of_archive", "second_of_archive"):
            archive.writestr(f"{name}.py", "value = 7")
    monkeypatch.syspath_prepend(str(tmp_path / "modules.zip"))

    def work(rows):
        import first_of_archive

        return first_of_archive.value + rows[1]

    assert parts.run_tasks(Tasks(), [(0, 1), (1, 3)], work) == [8, 10]
    assert not [finder for finder in sys.path_importer_cache.values() if isinstance(finder, zipimporter)]
    import second_of_archive

    assert second_of_archive.value == 7
