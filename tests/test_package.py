"""The wheel carries the whole package: every module, every contract, every template."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

REPO = Path(__file__).resolve().parents[1]
LOAD_ALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
from recsys_spark.storage import contract
print(json.dumps([contract.__file__, {name: contract.load(name).columns for name in contract.names()}]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    # from a copy: a build in the checkout would take up what an earlier one left in build/lib
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("recsys_spark", "schemas"):
        shutil.copytree(REPO / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "LICENSE", "README.md"):
        if (REPO / file).exists():
            shutil.copy(REPO / file, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--use-pep517",
    ]
    result = subprocess.run([*command, "-w", str(out), str(source)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (path,) = out.glob("*.whl")
    return path


def test_every_contract_loads_from_the_wheel(wheel, tmp_path):
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-c", LOAD_ALL, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    module, loaded = json.loads(result.stdout)

    contracts = {path.stem: json.loads(path.read_text()) for path in (REPO / "schemas").glob("*.json")}
    assert {"interactions", "top_n"} <= contracts.keys()
    assert Path(module).is_relative_to(tmp_path)
    assert loaded == {name: [field["name"] for field in raw["fields"]] for name, raw in contracts.items()}


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    package = REPO / "recsys_spark"
    expected = {path.relative_to(REPO).as_posix() for path in package.rglob("*.py")}
    expected |= {path.relative_to(REPO).as_posix() for path in package.glob("report/templates/*")}
    assert "recsys_spark/storage/contract.py" in expected
    with ZipFile(wheel) as archive:
        assert expected - set(archive.namelist()) == set()


def test_jobs_and_tests_stay_outside(wheel):
    with ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert top == {"recsys_spark", f"recsys_spark-{version('recsys_spark')}.dist-info"}
