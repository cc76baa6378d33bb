"""Space files: the distributions they define, and all faults in one error."""

from pathlib import Path

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recsys_spark.config.config import Config
from recsys_spark.errors import ConfigError
from recsys_spark.tune.space import SearchSpace, as_written, read_spaces

SHIPPED = sorted((Path(__file__).parents[2] / "conf" / "tune").glob("*.yaml"))
MODELS = ["popularity", "als", "item_knn", "network"]
CONFIG_MODELS = {"fused": MODELS}
"""The models of the config that a shipped space needs, where it needs more than its own."""
TUNABLE = ["als", "item_knn", "user_knn", "network"]


def put(tmp_path, text, name="space.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        read_spaces([put(tmp_path, text)], MODELS, TUNABLE)
    return [line.removeprefix(f"{tmp_path / 'space.yaml'}: ") for line in caught.value.faults]


def test_bounds_scales_and_choices(tmp_path):
    text = """
als:
  baselines.als.factors: [16, 64]
  baselines.als.iterations: {low: 2, high: 9}
  baselines.als.warm_iterations: {low: 1, high: 4}
  baselines.als.regularization: {low: 1, high: 100, log: true}
network:
  train.encoder: [mlp, gru]
  features.history_length: {low: 10, high: 200, log: true}
"""
    als, network = read_spaces([put(tmp_path, text)], MODELS, TUNABLE)
    assert (als.model, dict(als.keys)) == (
        "als",
        {
            "baselines.als.factors": CategoricalDistribution([16, 64]),
            "baselines.als.iterations": IntDistribution(2, 9),
            "baselines.als.warm_iterations": IntDistribution(1, 4),
            "baselines.als.regularization": FloatDistribution(1, 100, log=True),
        },
    )
    assert (network.model, dict(network.keys)) == (
        "network",
        {
            "train.encoder": CategoricalDistribution(["mlp", "gru"]),
            "features.history_length": IntDistribution(10, 200, log=True),
        },
    )


def test_the_fused_list_has_the_keys_of_all_models_and_needs_no_config_entry(tmp_path):
    text = """
fused:
  baselines.als.factors: [16, 64]
  train.dropout: {low: 0, high: 0.5}
  score.candidates: [100, 200]
  score.fusion: [blend, ranker]
"""
    (space,) = read_spaces([put(tmp_path, text)], MODELS, [*TUNABLE, "fused"])
    assert space.model == "fused" and len(space.keys) == 4
    text = """
fused:
  score.fusion_users: [100, 200]
  score.diversity: {low: 0, high: 0.5}
  split.valid_n: [1, 2]
"""
    with pytest.raises(ConfigError) as caught:
        read_spaces([put(tmp_path, text)], MODELS, [*TUNABLE, "fused"])
    lines = [line.split(": ")[2:4] for line in caught.value.faults]
    assert [key for key, _ in lines] == ["score.fusion_users", "score.diversity", "split.valid_n"]
    assert all("would change the measure, or nothing" in why for _, why in lines)


def test_the_fused_list_is_searched_alone_and_only_by_keys_of_the_config_s_models(tmp_path):
    texts = (
        "fused: {score.candidates: [100, 200]}",
        "als: {baselines.als.factors: [16, 64]}",
        "fused: {baselines.svd.factors: [16, 64]}",
    )
    files = [put(tmp_path, text, f"{i}.yaml") for i, text in enumerate(texts)]
    with pytest.raises(ConfigError, match="fused: has the keys of all models and is searched alone"):
        read_spaces(files[:2], MODELS, [*TUNABLE, "fused"])
    with pytest.raises(ConfigError, match="baselines.svd.factors: is not in this model's section, baselines.popu"):
        read_spaces(files[2:], MODELS, [*TUNABLE, "fused"])


def test_several_files_are_read_in_order(tmp_path):
    texts = (
        "network: {train.dropout: {low: 0, high: 0.5}}",
        "als: {baselines.als.confidence: {low: 1, high: 9}}",
    )
    files = [put(tmp_path, text, f"{i}.yaml") for i, text in enumerate(texts)]
    assert [space.model for space in read_spaces(files, MODELS, TUNABLE)] == ["network", "als"]
    with pytest.raises(ConfigError, match="als: appears twice"):
        read_spaces([*files, files[1]], MODELS, TUNABLE)


def test_suggested_numbers_are_rounded_to_what_the_overlay_holds(tmp_path):
    space = SearchSpace("als", {"a": FloatDistribution(0, 1)})
    values = space.values({"a": 0.123456789, "b": 1e-7 / 3, "c": 123456, "d": "x"})
    assert values == {"a": 0.1235, "b": 3.333e-8, "c": 123456, "d": "x"}
    assert yaml.safe_load(yaml.safe_dump(values)) == values


@pytest.mark.parametrize(("value", "inside"), [(0.1, True), (0.5, True), (0.09, False), (0.51, False), (None, False)])
def test_whether_a_space_contains_a_value(value, inside):
    assert SearchSpace("m", {"a": FloatDistribution(0.1, 0.5)}).contains({"a": value}) is inside
    assert SearchSpace("m", {"a": CategoricalDistribution([0.1, 0.5])}).contains({"a": value}) is (value in (0.1, 0.5))


def test_all_faults_in_one_error(tmp_path):
    text = """
als:
  baselines.als.factor: [8, 16]
  baselines.als: [1, 2]
  baselines.als.factors: {low: 0, high: 8}
  baselines.als.iterations: {low: 2, high: 8.5}
  baselines.als.seed: {low: 5, high: 5}
  baselines.als.regularization: {low: 1, high: 9, step: 2}
  baselines.als.confidence: [1.0]
  baselines.als.unobserved_weight: 0.5
  train.dropout: [0.1, 0.2]
network:
  train.encoder: {low: 1, high: 2}
  train.dropout: {low: 0.5, high: 1.0}
  train.weight_decay: {low: 0.0, high: 1.0, log: true}
item_knn: []
user_knn: {baselines.user_knn.neighbours: [1, 2]}
fused: {score.candidates: [100, 200]}
"""
    forms = "a list of choices, or {low: …, high: …} with log: true for a logarithmic scale"
    foreign = "is not in this model's section, baselines.als. Other keys would change the measure, or nothing"
    assert faults(tmp_path, text) == [
        "als: baselines.als.factor: unknown key. Did you mean factors?",
        f"als: baselines.als: {foreign}",
        "als: baselines.als.factors: input should be greater than or equal to 1 (found 0)",
        "als: baselines.als.iterations: input should be a valid integer (found 8.5)",
        "als: baselines.als.seed: low must be below high (found {'low': 5, 'high': 5})",
        f"als: baselines.als.regularization: must be {forms} (found {{'low': 1, 'high': 9, 'step': 2}})",
        "als: baselines.als.confidence: needs at least two different choices, each once (found [1.0])",
        f"als: baselines.als.unobserved_weight: must be {forms} (found 0.5)",
        f"als: train.dropout: {foreign}",
        "network: train.encoder: is not a number, so it needs a list of choices (found {'low': 1, 'high': 2})",
        "network: train.dropout: input should be less than 1 (found 1.0)",
        "network: train.weight_decay: a logarithmic scale needs low above 0 "
        "(found {'low': 0.0, 'high': 1.0, 'log': True})",
        f"item_knn: must hold keys of the config, each with {forms}",
        "user_knn: is not in the config, which has popularity, als, item_knn, network. "
        "Add it by baselines.models or train.enabled",
        "fused: cannot be searched. Choose from als, item_knn, user_knn, network",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- als", "must map models to the keys to search (found list)"),
        ("a: [", "is not YAML"),
        ("{}", "no model to search"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_space(tmp_path, text, fault):
    assert fault in faults(tmp_path, text)[0]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_spaces([tmp_path / "none.yaml"], MODELS, TUNABLE)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_spaces_are_valid(path):
    model = path.stem
    (space,) = read_spaces([path], CONFIG_MODELS.get(model, [model]), [model])
    assert space.model == model and len(space.keys) >= 4
    assert all(as_written(distribution) for distribution in space.keys.values())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_spaces_contain_the_defaults(path):
    """So the sampler learns from the trial of the default settings."""
    model = path.stem
    (space,) = read_spaces([path], CONFIG_MODELS.get(model, [model]), [model])
    defaults = Config.model_validate({"paths": {"root": "out", "events": "log.csv"}}).model_dump()

    def default(key):
        value = defaults
        for name in key.split("."):
            value = value[name]
        return value

    assert space.contains({key: default(key) for key in space.keys})
