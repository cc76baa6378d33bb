"""Item models by kind, and what must agree between them."""

import subprocess
import sys

import numpy as np
import pytest

from recsys_spark import registry
from recsys_spark.errors import ContractViolation, InputUnreadable
from recsys_spark.models import base
from stages.score.fake_models import FakeModel
from stages.score.synthetic_models import MODELS, N_ITEMS, put_models


def test_each_kind_opens_as_its_class_memory_mapped_once(tmp_path):
    folders = put_models(tmp_path)
    opened = {name: registry.load(folder) for name, folder in folders.items()}
    assert [model.kind for model in opened.values()] == list(MODELS)
    assert all(isinstance(array, np.memmap) for model in opened.values() for array in model.arrays.values())
    assert all(registry.load(folder) is opened[name] for name, folder in folders.items())


def test_a_model_made_again_is_not_served_stale(tmp_path):
    folder = put_models(tmp_path, seed=0)["als"]
    before = registry.load(folder).arrays["items"].copy()
    put_models(tmp_path, seed=1)
    assert not np.array_equal(registry.load(folder).arrays["items"], before)


def test_torch_is_loaded_for_a_network_only(tmp_path):
    code = (
        "import sys; from pathlib import Path; from recsys_spark import registry; from recsys_spark.stages.score import all_users\n"
        "[registry.load(Path(p)) for p in sys.argv[1:]]; sys.exit('torch' in sys.modules)"
    )
    paths = [str(folder) for folder in put_models(tmp_path).values()]
    assert subprocess.run([sys.executable, "-c", code, *paths], check=False).returncode == 0


def test_an_unknown_kind_and_a_missing_model_are_told(tmp_path):
    base.save(tmp_path / "odd", FakeModel(4, kind="oracle"))
    with pytest.raises(
        InputUnreadable,
        match="kind 'oracle' is not one of als, content, item_knn, item_ridge, network, popularity, svd, user_knn",
    ):
        registry.load(tmp_path / "odd")
    with pytest.raises(InputUnreadable, match="is not an item model: .*Run the stage that writes it again"):
        registry.load(tmp_path / "none")


def test_models_must_count_the_same_items(tmp_path):
    folders = list(put_models(tmp_path).values())
    assert registry.common_size(folders) == N_ITEMS
    base.save(tmp_path / "network", FakeModel(N_ITEMS + 2, kind="network"))
    with pytest.raises(
        ContractViolation, match=r"different numbers of items \(popularity 31, als 31, .*, content 31, network 33\)"
    ):
        registry.common_size([*folders, tmp_path / "network"])
