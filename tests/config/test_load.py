"""Loading the configuration: overlays, overrides, the rendered comments, and all faults at once."""

import re
from datetime import date
from pathlib import Path

import pytest
import yaml

from recsys_spark.config.base_yaml import render
from recsys_spark.config.config import Config
from recsys_spark.config.load import field_of, load
from recsys_spark.config.section import Section
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


def test_base_yaml_is_up_to_date():
    assert (CONF / "base.yaml").read_text(encoding="utf-8") == render(), "run `make conf`"


def test_base_yaml_holds_the_defaults(tmp_path):
    config = load(CONF / "base.yaml", ["paths.root=out", "paths.events=log.csv"])
    assert config == load(overlay(tmp_path, GIVEN))


@pytest.mark.parametrize("path", sorted(p for p in CONF.glob("*.yaml") if p.name != "base.yaml"), ids=lambda p: p.name)
def test_shipped_overlays_are_valid_and_hold_only_what_differs(path):
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


def test_all_faults_are_reported_at_once(tmp_path):
    lines = faults(
        tmp_path,
        "paths: {root: 's3://bucket/x', events: e}\nclean: {colums: {}, k_core_users: '3'}\n"
        "score: {top_n: 300}\nscoring: {}\n",
        "train.workers=3",
        "nonsense",
    )
    assert lines == [
        "--set nonsense: expected section.key=value",
        "paths.root: a URL is not supported. Use a path that is mounted on every node (found 's3://bucket/x')",
        "clean.k_core_users: input should be a valid integer (found '3')",
        "clean.colums: unknown key. Did you mean columns?",
        "scoring: unknown key. Did you mean score?",
        "features.row_groups: 8 is not a multiple of train.workers 3. Make it one",
        "score.candidates: 200 is below score.top_n 300. Raise it",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("score: {top_n: 3}", "paths.root: no path. Set it in the overlay or with --set (found '')"),
        (GIVEN + "train: {learning_rate: -1}", "train.learning_rate: input should be greater than 0 (found -1)"),
        (GIVEN + "train: {mixed_precision: 'yes'}",
         "train.mixed_precision: input should be a valid boolean (found 'yes')"),
        (GIVEN + "split: {method: lastn}",
         "split.method: input should be 'last_n', 'temporal' or 'random' (found 'lastn')"),
        (GIVEN + "clean: {rating_range: [5, 1]}",
         "clean.rating_range: the lowest value 5.0 is above the highest 1.0. Swap them (found [5, 1])"),
        (GIVEN + "clean: {columns: {event_ts: null}}",
         "split.method: last_n needs event times, and clean.columns.event_ts is null. "
         "Set the method to random or name the column"),
        (GIVEN + "clean: {columns: {event_ts: null}}\nbaselines: {popularity: {half_life_days: 30.0}}",
         "baselines.popularity.half_life_days: decay needs event times, and clean.columns.event_ts is null. "
         "Set it to null or name the column"),
        (GIVEN + "clean: {default_event_type: seen}",
         "clean: default_event_type 'seen' has no weight. "
         "Add it to event_weights or use one of view, cart, purchase, rating"),
        (GIVEN + "clean: {segment_by: [age]}",
         "clean: segment_by has attributes that user_columns.attributes lacks: age. Add them there"),
        (GIVEN + "baselines: {models: [als]}",
         "baselines.models: popularity is missing, and users without history need it. Add it (found ['als'])"),
        (GIVEN + "baselines: {models: [popularity, bpr]}",
         "baselines.models: unknown model bpr. "
         "Use names of popularity, als, item_knn, item_ridge, user_knn, svd, content (found ['popularity', 'bpr'])"),
        (GIVEN + "split: {method: random, valid_share: 0.5, test_share: 0.5}",
         "split.valid_share + split.test_share: 1 leaves no training data. Keep the sum below 1"),
        (GIVEN + "baselines: {models: [popularity, als, als]}",
         "baselines.models: a name occurs twice. Remove one (found ['popularity', 'als', 'als'])"),
        (GIVEN + "train: {seed: -1}", "train.seed: input should be greater than or equal to 0 (found -1)"),
        (GIVEN + "train: {learning_rate: .inf}", "train.learning_rate: input should be a finite number (found inf)"),
        (GIVEN + "clean: {event_weights: {view: .inf}}",
         "clean.event_weights.view: input should be a finite number (found inf)"),
        (GIVEN + "split: {valid_share: 0.0}", "split.valid_share: input should be greater than 0 (found 0.0)"),
        (GIVEN + "split: {cold_user_share: 1.0}", "split.cold_user_share: input should be less than 1 (found 1.0)"),
        (GIVEN + "clean: {columns: {item_id: ''}}",
         "clean.columns.item_id: string should have at least 1 character (found '')"),
        (GIVEN + "train: {encoder: gru}",
         "train.encoder: gru learns from whole histories, and features.examples is targets. "
         "Set features.examples to users or train.encoder to mlp"),
        (GIVEN + "features: {examples: users}\ntrain: {encoder: attention, dimension: 64, attention_heads: 3}",
         "train.attention_heads: 3 does not divide train.dimension 64. Make train.dimension a multiple of it"),
        (GIVEN + "train: {neighbours: 20}\nbaselines: {models: [popularity, als]}",
         "train.neighbours: 20 needs item_knn in baselines.models. Add it or set this key to 0"),
        (GIVEN + "train: {start: svd}",
         "train.start: svd needs svd in baselines.models. Add it or set this key to random"),
        (GIVEN + "train: {start: svd, dimension: 64}\nbaselines: {models: [popularity, svd], svd: {factors: 32}}",
         "train.dimension: 64 is above baselines.svd.factors 32, and train.start is svd. "
         "Lower the first or raise the second"),
        (GIVEN + "baselines: {models: [popularity, content]}",
         "baselines.models: content needs an items file. Set paths.items or remove content"),
        (GIVEN + "baselines: {models: [popularity, content]}\nclean: {item_columns: {title: null, category: null}}",
         "clean.item_columns: title, category and text are all null, and content needs one of them. "
         "Name a column or remove content from baselines.models"),
        (GIVEN + "baselines: {content: {max_term_share: 0.0}}",
         "baselines.content.max_term_share: input should be greater than 0 (found 0.0)"),
        (GIVEN + "score: {diversity: 1.5}", "score.diversity: input should be less than or equal to 1 (found 1.5)"),
        (GIVEN + "score: {diversity: 0.1}\nbaselines: {models: [popularity, item_knn]}",
         "score.diversity: items can be compared neither by category nor by als vectors. "
         "Set paths.items and clean.item_columns.category, or add als to baselines.models"),
        (GIVEN + "score: {max_per_category: 3}",
         "score.max_per_category: there are no categories. Set paths.items and clean.item_columns.category"),
        (GIVEN + "clean: {segment_by: [age], user_columns: {attributes: [age]}}",
         "clean.segment_by: there is no users file. Set paths.users"),
        (GIVEN + "clean: {require_known_items: true}",
         "clean.require_known_items: there is no items file. Set paths.items"),
        (GIVEN + "evaluate: {gate_k: 7}", "evaluate.gate_k: 7 is not in evaluate.cutoffs [5, 10, 20]. Add it there"),
    ],
)  # fmt: skip
def test_a_fault_names_the_key_the_value_and_the_way_out(tmp_path, text, fault):
    assert fault in faults(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("baselines: {item_cosine: {neighbours: 20}}",
         "baselines.item_cosine: this key is now called baselines.item_knn. Use the new name"),
        ("baselines: {user_cosine: {neighbours: 20}}",
         "baselines.user_cosine: this key is now called baselines.user_knn. Use the new name"),
        ("baselines: {models: [popularity, item_cosine]}",
         "baselines.models: item_cosine is now called item_knn. Use the new name "
         "(found ['popularity', 'item_cosine'])"),
        ("baselines: {models: [popularity, user_cosine]}",
         "baselines.models: user_cosine is now called user_knn. Use the new name "
         "(found ['popularity', 'user_cosine'])"),
    ],
)  # fmt: skip
def test_a_name_of_an_earlier_version_gets_the_new_name(tmp_path, text, fault):
    assert faults(tmp_path, GIVEN + text) == [fault]


def test_an_old_key_in_an_override_gets_the_new_name(tmp_path):
    assert faults(tmp_path, GIVEN, "baselines.item_cosine.neighbours=20") == [
        "baselines.item_cosine: this key is now called baselines.item_knn. Use the new name"
    ]
    with pytest.raises(ValueError, match=r"^this key is now called baselines\.item_knn\. Use the new name$"):
        field_of("baselines.item_cosine.neighbours")


def comments(section=Config):
    """All comments of `conf/base.yaml`, by key."""
    for name, field in section.model_fields.items():
        if isinstance(field.default, Section) or name == "paths":
            yield name, field.annotation.__doc__
            yield from ((f"{name}.{key}", text) for key, text in comments(field.annotation))
        else:
            yield name, " ".join(field.description.split())


@pytest.mark.parametrize(("key", "text"), list(comments()))
def test_every_comment_is_a_phrase_of_short_sentences(key, text):
    assert re.match(r"[A-Z]|(random|temporal|last_n|targets|vae|gru|attention|spark)\b.*: ", text), text
    assert not re.match(r"(Of|For|In|By|That|What|Who)\b", text) and text.endswith("."), text
    assert ";" not in text and all(len(sentence.split()) <= 25 for sentence in text.split(". ")), text


@pytest.mark.parametrize("encoder", ["mlp", "vae", "gru", "lstm", "conv", "attention"])
def test_all_encoders_accept_users_and_only_mlp_accepts_targets(tmp_path, encoder):
    text = f"{GIVEN}train: {{encoder: {encoder}}}\n"
    assert load(overlay(tmp_path, text), ["features.examples=users"]).train.encoder == encoder
    if encoder != "mlp":
        assert [line.split(":")[0] for line in faults(tmp_path, text)] == ["train.encoder"]
    else:
        assert load(overlay(tmp_path, text)).features.examples == "targets"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("[]", "expected sections (paths:, clean:, …), found list"), ("a: [", "not YAML: ")],
)
def test_a_file_that_is_no_overlay(tmp_path, text, fault):
    assert faults(tmp_path, text)[0].startswith(fault)


def test_missing_overlay(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file\. Give --config the path of an overlay"):
        load(tmp_path / "nowhere.yaml")
