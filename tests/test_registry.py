"""The registry: entries, loading of saved models, and a model from outside the package."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from factories import checkerboard, finish_stage, make_context, missing_item, moment
from outside_model import ENTRY, NAME, CoOccurrence, OutsideBaselines
from recsys_spark import registry
from recsys_spark.columns import BACKTEST, FUSED
from recsys_spark.config.baselines import Baselines
from recsys_spark.config.config import Config
from recsys_spark.config.section import Section
from recsys_spark.errors import ContractViolation, InputUnreadable
from recsys_spark.models import base
from recsys_spark.models.histories import Histories
from recsys_spark.stages.baselines import stage
from recsys_spark.topk.dispatch import top_k
from recsys_spark.topk.exclusions import Exclusions
from stages.baselines.local import checkerboard_matrix, histories_of, put_pairs
from stages.score.fake_models import FakeModel
from stages.score.synthetic_models import MODELS, N_ITEMS, put_models


@pytest.fixture
def outside(monkeypatch):
    """The model from outside, registered for one test."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    registry.register(ENTRY)
    return registry.entry(NAME)


def test_every_entry_has_its_class_settings_and_label():
    config = Config.model_validate({"paths": {"root": "out", "events": "log.csv"}})
    for name in registry.names():
        entry = registry.entry(name)
        assert entry.model_class().kind == name
        assert isinstance(entry.settings(config), Section)
        assert entry.label.label and entry.label.sentence.endswith(".")
    assert len({label.colour for label in registry.labels().values()}) == len(registry.names()) + 1
    assert list(registry.labels()) == [*registry.names(), FUSED]


def test_every_section_of_baselines_has_an_entry():
    sections = [name for name, field in Baselines.model_fields.items() if isinstance(field.default, Section)]
    assert [f"baselines.{name}" for name in sections] == [
        entry.section for entry in map(registry.entry, registry.names()) if entry.stage == "baselines"
    ]


def test_each_kind_opens_as_its_class_memory_mapped_once(tmp_path):
    folders = put_models(tmp_path)
    opened = {name: registry.load(folder) for name, folder in folders.items()}
    assert [model.kind for model in opened.values()] == list(MODELS)
    assert all(isinstance(array, np.memmap) for model in opened.values() for array in model.arrays.values())
    assert all(registry.load(folder) is opened[name] for name, folder in folders.items())


def test_a_rewritten_model_is_loaded_again(tmp_path):
    folder = put_models(tmp_path, seed=0)["als"]
    before = registry.load(folder).arrays["items"].copy()
    put_models(tmp_path, seed=1)
    assert not np.array_equal(registry.load(folder).arrays["items"], before)


@pytest.mark.parametrize(("former", "name"), [("item_cosine", "item_knn"), ("user_cosine", "user_knn")])
def test_a_model_saved_under_a_former_name_is_loaded(tmp_path, former, name):
    folder = put_models(tmp_path)[name]
    header = (folder / base.HEADER).read_text()
    (folder / base.HEADER).write_text(header.replace(f'"{name}"', f'"{former}"'))
    assert registry.load(folder).kind == name


def test_torch_is_imported_for_a_network_only(tmp_path):
    code = (
        "import sys; from pathlib import Path; from recsys_spark import registry\n"
        "from recsys_spark.stages.score import all_users\n"
        "[registry.load(Path(p)) for p in sys.argv[1:]]; sys.exit('torch' in sys.modules)"
    )
    paths = [str(folder) for folder in put_models(tmp_path).values()]
    assert subprocess.run([sys.executable, "-c", code, *paths], check=False).returncode == 0


def test_an_unknown_kind_and_a_missing_model_are_errors(tmp_path):
    base.save(tmp_path / "odd", FakeModel(4, kind="oracle"))
    known = "popularity, als, item_knn, item_ridge, user_knn, svd, content, network"
    with pytest.raises(InputUnreadable, match=f"odd: unknown kind of item model 'oracle'. Known: {known}$"):
        registry.load(tmp_path / "odd")
    with pytest.raises(InputUnreadable, match="none is not an item model: .* --force"):
        registry.load(tmp_path / "none")


def test_models_must_have_the_same_number_of_items(tmp_path):
    folders = list(put_models(tmp_path).values())
    assert registry.common_size(folders) == N_ITEMS
    base.save(tmp_path / "network", FakeModel(N_ITEMS + 2, kind="network"))
    with pytest.raises(ContractViolation, match=r"\(popularity 31, als 31, .*, content 31, network 33\)"):
        registry.common_size([*folders, tmp_path / "network"])


def test_a_name_is_registered_once(outside):
    with pytest.raises(ValueError, match="'co_occurrence' is already registered"):
        registry.register(outside)


def test_a_model_from_outside_needs_its_section():
    with pytest.raises(ValidationError, match="unknown model co_occurrence"):
        Baselines.model_validate({"models": ["popularity", NAME]})
    assert OutsideBaselines.model_validate({"models": ["popularity", NAME]}).models[-1] == NAME


def test_a_model_from_outside_is_fitted_saved_loaded_and_scored(tmp_path, outside):
    """Items 1 and 2 share users 0 and 1. Items 2 and 3 share user 2 alone, and min_users leaves them out."""
    pairs = put_pairs(tmp_path / "pairs", checkerboard_matrix([(0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (2, 3)], 3), 2)
    context = SimpleNamespace(pairs=pairs, n_items=4, settings=CoOccurrence(min_users=2))
    model, counts = outside.fit_function()(context, tmp_path / "scratch")
    assert counts == {"co_occurrences": 2}
    base.save(tmp_path / NAME, model)
    loaded = registry.load(tmp_path / NAME)
    histories = Histories.of([[1], [2], [3]], [[0], [0], [0]], [[1.0], [1.0], [1.0]])
    scores = loaded.score_tile(loaded.encode(histories), 0, loaded.n_items)
    np.testing.assert_array_equal(scores[:, 1:], [[0, 2, 0], [2, 0, 0], [0, 0, 0]])
    assert registry.names()[-1] == NAME and registry.labels()[NAME].label == "Co-occurrence"


def test_the_baselines_stage_fits_a_model_from_outside(tmp_path, spark, outside):
    n_users, n_items = 20, 12
    pairs = checkerboard(n_users, n_items)
    folds = [{"user_idx": u, "item_idx": i, "event_ts": moment(i), "weight": 1.0, "fold": "train"} for u, i in pairs]
    plain = make_context(tmp_path, spark)
    section = OutsideBaselines.model_validate({"models": ["popularity", NAME], "tasks": 2})
    context = replace(plain, config=plain.config.model_copy(update={"baselines": section}))
    context.__dict__["spark"] = spark
    finish_stage(context, "clean", None, {}, n_users=n_users, n_items=n_items + 1)
    finish_stage(context, "split", BACKTEST, {"folds": ("folds", folds)}, train=len(folds))

    stage.run(context, BACKTEST)

    model = registry.load(context.layout.table(outside.stage, BACKTEST, NAME))
    histories = histories_of(checkerboard_matrix(pairs, n_items))
    excluded = Exclusions(np.zeros(n_items + 1, bool), histories)
    items, _ = top_k(model, model.encode(histories), excluded, 1, tile=5)
    assert items[:, 0].tolist() == [missing_item(user, n_items) for user in range(n_users)]
