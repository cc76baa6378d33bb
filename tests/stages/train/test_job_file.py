"""The job file keeps every value and its type, and names wrong keys."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from recsys_spark.stages.train.job_file import Job
from stages.train.synthetic_examples import make_job


@pytest.fixture
def job(tmp_path):
    job = make_job(tmp_path / "features", tmp_path, examples=6, n_items=5, length=4, epochs=2, warm_epochs=3)
    return replace(job, weights=tmp_path / "weights")


def test_a_job_is_read_as_it_was_written(job, tmp_path):
    job.write(tmp_path / "job.json")
    read = Job.read(tmp_path / "job.json")
    assert read == job
    assert isinstance(read.weights, Path)
    assert read.start is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_items": "5"}, "n_items"),
        ({"validate": 1}, "validate"),
        ({"n_itmes": 5}, "n_itmes"),
        ({"settings": {"seed": 0.5}}, r"settings\.seed"),
        ({"settings": {"depth": 2}}, r"settings\.depth"),
        ({"settings": {"dimension": None}}, r"settings\.dimension"),
    ],
)
def test_a_wrong_or_unknown_key_is_named(job, tmp_path, change, message):
    path = tmp_path / "job.json"
    job.write(path)
    values = json.loads(path.read_text())
    settings = {**values["settings"], **change.pop("settings", {})}
    path.write_text(json.dumps({**values, **change, "settings": settings}))
    with pytest.raises(ValidationError, match=message):
        Job.read(path)


@pytest.mark.parametrize("key", ["epochs", "settings"])
def test_a_missing_key_is_named(job, tmp_path, key):
    path = tmp_path / "job.json"
    job.write(path)
    values = json.loads(path.read_text())
    del values[key]
    path.write_text(json.dumps(values))
    with pytest.raises(ValidationError, match=key):
        Job.read(path)
