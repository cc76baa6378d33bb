"""The Python workers' daemon: archives are read again only when they have changed, and Spark runs its workers from it."""

import importlib
import sys
import zipfile
import zipimport

import pytest

from recsys_spark.spark import daemon


@pytest.fixture
def reads(monkeypatch):
    """Paths of the archives whose directory was read, with the daemon's rule in force."""
    found = []
    whole = zipimport.zipimporter.invalidate_caches

    def spied(importer):
        found.append(importer.archive)
        return whole(importer)

    monkeypatch.setattr(zipimport.zipimporter, "invalidate_caches", spied)
    daemon.read_archives_once()
    return found


def _archive(path, **modules):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"{name}.py", text)


def test_an_archive_is_read_again_when_it_has_changed(tmp_path, monkeypatch, reads):
    path = tmp_path / "added.zip"
    _archive(path, added_one="value = 1")
    monkeypatch.syspath_prepend(str(path))
    assert importlib.import_module("added_one").value == 1
    for _ in range(3):
        importlib.invalidate_caches()
    assert reads.count(str(path)) == 1
    _archive(path, added_one="value = 1", added_two="value = 22")
    importlib.invalidate_caches()
    assert importlib.import_module("added_two").value == 22
    path.unlink()
    importlib.invalidate_caches()
    for name in ("added_one", "added_two"):
        sys.modules.pop(name)


def test_workers_come_from_the_daemon_and_find_added_files(spark, tmp_path):
    path = tmp_path / "sent.py"
    path.write_text("value = 7")
    spark.sparkContext.addPyFile(str(path))

    def look(_):
        import gc
        import sys

        import sent

        yield sent.value, "numba" in sys.modules, gc.get_freeze_count() > 0

    assert spark.sparkContext.parallelize([0], 1).mapPartitions(look).collect() == [(7, True, True)]
