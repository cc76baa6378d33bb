"""Configuration: overlay + overrides, strictness, and all faults at once."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from recsys_spark.config.config import Config
from recsys_spark.config.load import load
from recsys_spark.config.render import render
from recsys_spark.errors import ConfigError

GIVEN = "paths: {root: out, events: log.csv}\n"
CONF = Path(__file__).parents[2] / "conf"


def overlay(tmp_path, text):
    path = tmp_path / "overlay.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(tmp_path, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(overlay(tmp_path, text), overrides)
    return [line.removeprefix(f"{tmp_path / 'overlay.yaml'}: ") for line in caught.value.faults]


def test_overlay_changes_only_what_it_names(tmp_path):
    config = load(overlay(tmp_path, GIVEN + "score: {top_n: 30}\n"))
    assert config.score.top_n == 30
    assert config.model_copy(update={"score": Config.model_fields["score"].default}) == load(overlay(tmp_path, GIVEN))


def test_override_wins_over_overlay_and_reaches_any_depth(tmp_path):
    path = overlay(tmp_path, GIVEN + "score: {top_n: 30}\n")
    config = load(
        path,
        [
            "score.top_n=40",
            "baselines.als.factors=8",
            "evaluate.cutoffs=[5, 10]",
            "clean.earliest=2001-02-03",
        ],
    )
    assert (config.score.top_n, config.baselines.als.factors, config.evaluate.cutoffs) == (40, 8, [5, 10])
    assert config.clean.earliest == date(2001, 2, 3)


def test_base_yaml_is_what_the_sections_render():
    assert (CONF / "base.yaml").read_text(encoding="utf-8") == render(), "conf/base.yaml is old: run `make conf`"


def test_base_yaml_holds_the_defaults(tmp_path):
    config = load(CONF / "base.yaml", ["paths.root=out", "paths.events=log.csv"])
    assert config == load(overlay(tmp_path, GIVEN))


@pytest.mark.parametrize("path", sorted(p for p in CONF.glob("*.yaml") if p.name != "base.yaml"), ids=lambda p: p.name)
def test_shipped_overlays_are_sound_and_hold_only_what_differs(path):
    config = load(path)
    base = yaml.safe_load(render())

    def same(overlay_part, base_part, where):
        for key, value in overlay_part.items():
            if (
                isinstance(value, dict)
                and isinstance(base_part.get(key), dict)
                and key not in ("event_weights", "options")
            ):
                yield from same(value, base_part[key], f"{where}{key}.")
            elif value == base_part.get(key):
                yield f"{where}{key}"

    assert config.paths.root
    assert list(same(yaml.safe_load(path.read_text(encoding="utf-8")), base, "")) == []


def test_all_faults_are_told_at_once(tmp_path):
    told = faults(
        tmp_path,
        "paths: {root: 's3://bucket/x', events: e}\nclean: {colums: {}, k_core_users: '3'}\nscore: {top_n: 300}\nscoring: {}\n",
        "train.workers=3",
        "nonsense",
    )
    assert told == [
        "--set nonsense: must read section.key=value",
        "paths.root: must be a path that is mounted on every node, not a URL: item models are memory-mapped from it (found 's3://bucket/x')",
        "clean.k_core_users: input should be a valid integer (found '3')",
        "clean.colums: unknown key; did you mean columns?",
        "scoring: unknown key; did you mean score?",
        "features.row_groups: 8 is no multiple of train.workers, 3",
        "score.candidates: 200 is fewer than score.top_n, 300",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("score: {top_n: 3}", "paths.root: must be given, in the overlay or with --set (found '')"),
        (GIVEN + "train: {learning_rate: -1}", "train.learning_rate: input should be greater than 0 (found -1)"),
        (GIVEN + "train: {mixed_precision: 'yes'}", "train.mixed_precision: input should be a valid boolean (found 'yes')"),
        (GIVEN + "split: {method: lastn}", "split.method: input should be 'last_n', 'temporal' or 'random' (found 'lastn')"),
        (GIVEN + "clean: {rating_range: [5, 1]}", "clean.rating_range: the lowest, 5.0, is above the highest, 1.0 (found [5, 1])"),
        (GIVEN + "clean: {columns: {event_ts: null}}", "split.method: last_n needs times, and clean.columns.event_ts is null; use random"),
        (GIVEN + "clean: {default_event_type: seen}", "clean: default_event_type 'seen' is not in event_weights (view, cart, purchase, rating)"),
        (GIVEN + "baselines: {models: [als]}", "baselines.models: must hold popularity, which serves users without history (found ['als'])"),
        (GIVEN + "split: {method: random, valid_share: 0.5, test_share: 0.5}",
         "split.valid_share + split.test_share: nothing would be left to train on; keep the sum below 1"),
        (GIVEN + "baselines: {models: [popularity, als, als]}", "baselines.models: names a model twice (found ['popularity', 'als', 'als'])"),
        (GIVEN + "train: {seed: -1}", "train.seed: input should be greater than or equal to 0 (found -1)"),
        (GIVEN + "train: {learning_rate: .inf}", "train.learning_rate: input should be a finite number (found inf)"),
        (GIVEN + "clean: {event_weights: {view: .inf}}", "clean.event_weights.view: input should be a finite number (found inf)"),
        (GIVEN + "split: {valid_share: 0.0}", "split.valid_share: input should be greater than 0 (found 0.0)"),
        (GIVEN + "split: {cold_user_share: 1.0}", "split.cold_user_share: input should be less than 1 (found 1.0)"),
        (GIVEN + "clean: {columns: {item_id: ''}}", "clean.columns.item_id: string should have at least 1 character (found '')"),
        (GIVEN + "train: {encoder: gru}",
         "train.encoder: gru learns from whole histories, and features.examples is targets; set features.examples to users, or train.encoder to mlp"),
        (GIVEN + "features: {examples: users}\ntrain: {encoder: attention, dimension: 64, attention_heads: 3}",
         "train.attention_heads: 3 heads cannot share train.dimension, 64; make train.dimension a multiple of them"),
        (GIVEN + "train: {neighbours: 20}\nbaselines: {models: [popularity, als]}",
         "train.neighbours: 20 of each item, and baselines.models does not name item_knn, which knows them; "
         "name it there, or set train.neighbours to 0"),
        (GIVEN + "train: {start: svd}",
         "train.start: svd begins at the vectors of a model that baselines.models does not name; name svd there"),
        (GIVEN + "train: {start: svd, dimension: 64}\nbaselines: {models: [popularity, svd], svd: {factors: 32}}",
         "train.dimension: 64 with train.start svd, and baselines.svd.factors is 32; lower the first or raise the second"),
        (GIVEN + "baselines: {models: [popularity, content]}",
         "baselines.models: content needs paths.items, which is null; name the items file there, or leave content out"),
        (GIVEN + "baselines: {models: [popularity, content]}\nclean: {item_columns: {title: null, category: null}}",
         "clean.item_columns: title, category and text are all null, and baselines.models has content; "
         "name one of the columns, or leave content out"),
        (GIVEN + "baselines: {content: {max_term_share: 0.0}}", "baselines.content.max_term_share: input should be greater than 0 (found 0.0)"),
        (GIVEN + "score: {diversity: 1.5}", "score.diversity: input should be less than or equal to 1 (found 1.5)"),
        (GIVEN + "score: {diversity: 0.1}\nbaselines: {models: [popularity, item_knn]}",
         "score.diversity: compares items by their categories, and where they have none by als; "
         "name paths.items and clean.item_columns.category, or als in baselines.models"),
        (GIVEN + "score: {max_per_category: 3}", "score.max_per_category: needs paths.items and clean.item_columns.category"),
        (GIVEN + "evaluate: {gate_k: 7}", "evaluate.gate_k: 7 is not one of evaluate.cutoffs, [5, 10, 20]"),
    ],
)  # fmt: skip
def test_impossible_values_are_named_with_the_way_out(tmp_path, text, fault):
    assert fault in faults(tmp_path, text)


@pytest.mark.parametrize("encoder", ["mlp", "vae", "gru", "lstm", "conv", "attention"])
def test_every_encoder_learns_from_users_and_the_mlp_from_targets(tmp_path, encoder):
    text = f"{GIVEN}train: {{encoder: {encoder}}}\n"
    assert load(overlay(tmp_path, text), ["features.examples=users"]).train.encoder == encoder
    refused = [] if encoder == "mlp" else ["train.encoder"]
    told = [] if encoder == "mlp" else faults(tmp_path, text)
    assert [line.split(":")[0] for line in told] == refused


@pytest.mark.parametrize(
    ("text", "fault"),
    [("[]", "must hold sections (paths:, clean:, …), found list"), ("a: [", "not YAML: ")],
)
def test_an_overlay_that_is_no_overlay(tmp_path, text, fault):
    assert faults(tmp_path, text)[0].startswith(fault)


def test_missing_overlay(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; --config takes the path of an overlay"):
        load(tmp_path / "nowhere.yaml")
