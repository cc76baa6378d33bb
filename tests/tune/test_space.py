"""Space files: what they become, and every fault told at once."""

from pathlib import Path

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recsys_spark.config.config import Config
from recsys_spark.errors import ConfigError
from recsys_spark.tune.space import Group, read, spec

SHIPPED = sorted((Path(__file__).parents[2] / "conf" / "tune").glob("*.yaml"))
MODELS = ["popularity", "als", "item_knn", "network"]
TOGETHER = {"fused": MODELS}
"""What the overlay of a shipped space names, where that is not its model alone."""
TUNABLE = ["als", "item_knn", "user_knn", "network"]


def put(tmp_path, text, name="space.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        read([put(tmp_path, text)], MODELS, TUNABLE)
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
    als, network = read([put(tmp_path, text)], MODELS, TUNABLE)
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


def test_all_models_together_have_the_keys_of_all_and_need_no_name(tmp_path):
    text = """
fused:
  baselines.als.factors: [16, 64]
  train.dropout: {low: 0, high: 0.5}
  score.candidates: [100, 200]
  score.fusion: [blend, ranker]
"""
    (group,) = read([put(tmp_path, text)], MODELS, [*TUNABLE, "fused"])
    assert group.model == "fused" and len(group.keys) == 4
    text = """
fused:
  score.fusion_users: [100, 200]
  score.diversity: {low: 0, high: 0.5}
  split.valid_n: [1, 2]
"""
    with pytest.raises(ConfigError) as caught:
        read([put(tmp_path, text)], MODELS, [*TUNABLE, "fused"])
    told = [line.split(": ")[2:4] for line in caught.value.faults]
    assert [key for key, _ in told] == ["score.fusion_users", "score.diversity", "split.valid_n"]
    assert all("would change what is measured, or nothing" in why for _, why in told)


def test_all_models_together_are_searched_alone_and_without_keys_of_models_that_are_not_there(tmp_path):
    texts = (
        "fused: {score.candidates: [100, 200]}",
        "als: {baselines.als.factors: [16, 64]}",
        "fused: {baselines.svd.factors: [16, 64]}",
    )
    files = [put(tmp_path, text, f"{i}.yaml") for i, text in enumerate(texts)]
    with pytest.raises(ConfigError, match="fused: has the settings of all models, so it is searched alone"):
        read(files[:2], MODELS, [*TUNABLE, "fused"])
    with pytest.raises(ConfigError, match="baselines.svd.factors: not of this model's section, baselines.popu"):
        read(files[2:], MODELS, [*TUNABLE, "fused"])


def test_several_files_are_one_search_in_their_order(tmp_path):
    texts = (
        "network: {train.dropout: {low: 0, high: 0.5}}",
        "als: {baselines.als.confidence: {low: 1, high: 9}}",
    )
    files = [put(tmp_path, text, f"{i}.yaml") for i, text in enumerate(texts)]
    assert [group.model for group in read(files, MODELS, TUNABLE)] == ["network", "als"]
    with pytest.raises(ConfigError, match="als: searched twice"):
        read([*files, files[1]], MODELS, TUNABLE)


def test_what_is_tried_is_what_an_overlay_can_say(tmp_path):
    group = Group("als", {"a": FloatDistribution(0, 1)})
    tried = group.values({"a": 0.123456789, "b": 1e-7 / 3, "c": 123456, "d": "x"})
    assert tried == {"a": 0.1235, "b": 3.333e-8, "c": 123456, "d": "x"}
    assert yaml.safe_load(yaml.safe_dump(tried)) == tried


@pytest.mark.parametrize(("value", "inside"), [(0.1, True), (0.5, True), (0.09, False), (0.51, False), (None, False)])
def test_a_space_knows_what_it_holds(value, inside):
    assert Group("m", {"a": FloatDistribution(0.1, 0.5)}).holds({"a": value}) is inside
    assert Group("m", {"a": CategoricalDistribution([0.1, 0.5])}).holds({"a": value}) is (value in (0.1, 0.5))


def test_all_faults_at_once(tmp_path):
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
    assert faults(tmp_path, text) == [
        "als: baselines.als.factor: unknown key. Did you mean factors?",
        "als: baselines.als: not of this model's section, baselines.als; other keys would change what is measured, or nothing",
        "als: baselines.als.factors: input should be greater than or equal to 1 (found 0)",
        "als: baselines.als.iterations: input should be a valid integer (found 8.5)",
        "als: baselines.als.seed: low must be below high (found {'low': 5, 'high': 5})",
        "als: baselines.als.regularization: must be a list of choices, or {low: …, high: …} with log: true for a scale "
        "(found {'low': 1, 'high': 9, 'step': 2})",
        "als: baselines.als.confidence: needs two choices or more, each once (found [1.0])",
        "als: baselines.als.unobserved_weight: must be a list of choices, or {low: …, high: …} with log: true for a scale (found 0.5)",
        "als: train.dropout: not of this model's section, baselines.als; other keys would change what is measured, or nothing",
        "network: train.encoder: not a number: give a list of choices (found {'low': 1, 'high': 2})",
        "network: train.dropout: input should be less than 1 (found 1.0)",
        "network: train.weight_decay: a scale needs low above 0 (found {'low': 0.0, 'high': 1.0, 'log': True})",
        "item_knn: must hold keys of the config, each with a list of choices, or {low: …, high: …} with log: true for a scale",
        "user_knn: the config does not name it; it has popularity, als, item_knn, network (baselines.models, train.enabled)",
        "fused: cannot be searched; these can: als, item_knn, user_knn, network",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [("- als", "must hold models with the keys to search, found list"), ("a: [", "not YAML"), ("{}", "nothing to search")],
)  # fmt: skip
def test_a_file_that_is_no_space(tmp_path, text, told):
    assert told in faults(tmp_path, text)[0]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read([tmp_path / "none.yaml"], MODELS, TUNABLE)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_spaces_are_sound(path):
    model = path.stem
    (group,) = read([path], TOGETHER.get(model, [model]), [model])
    assert group.model == model and len(group.keys) >= 4
    assert all(spec(distribution) for distribution in group.keys.values())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_spaces_hold_the_defaults(path):
    """Then the search may learn from the settings that most start with."""
    model = path.stem
    (group,) = read([path], TOGETHER.get(model, [model]), [model])
    defaults = Config.model_validate({"paths": {"root": "out", "events": "log.csv"}}).model_dump()

    def default(key):
        found = defaults
        for step in key.split("."):
            found = found[step]
        return found

    assert group.holds({key: default(key) for key in group.keys})
