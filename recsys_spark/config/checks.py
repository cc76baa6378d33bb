"""Rules across sections of the config. Each fault is one line: the key, what is wrong, and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys_spark.columns import ALS, CONTENT, ITEM_KNN, PER_USER, SVD

if TYPE_CHECKING:
    from recsys_spark.config.config import Config


def faults(config: Config) -> Iterator[str]:
    """Yield every broken rule. All sections are valid by themselves."""
    for check in (_times, _split, _network, _lists, _input_files):
        yield from check(config)


def _times(config: Config) -> Iterator[str]:
    if config.clean.columns.event_ts is not None:
        return
    if config.split.method != "random":
        yield (
            f"split.method: {config.split.method} needs event times, and clean.columns.event_ts is null. "
            "Set the method to random or name the column"
        )
    if config.baselines.popularity.half_life_days is not None:
        yield (
            "baselines.popularity.half_life_days: decay needs event times, and clean.columns.event_ts is null. "
            "Set it to null or name the column"
        )


def _split(config: Config) -> Iterator[str]:
    share = config.split.valid_share + config.split.test_share
    if config.split.method == "random" and share >= 1:
        yield f"split.valid_share + split.test_share: {share:g} leaves no training data. Keep the sum below 1"


def _network(config: Config) -> Iterator[str]:
    train, models = config.train, config.baselines.models
    if train.encoder != "mlp" and config.features.examples != PER_USER:
        yield (
            f"train.encoder: {train.encoder} learns from whole histories, and features.examples is "
            f"{config.features.examples}. Set features.examples to users or train.encoder to mlp"
        )
    if train.encoder == "attention" and train.dimension % train.attention_heads:
        yield (
            f"train.attention_heads: {train.attention_heads} does not divide train.dimension {train.dimension}. "
            "Make train.dimension a multiple of it"
        )
    if config.features.row_groups % train.workers:
        yield (
            f"features.row_groups: {config.features.row_groups} is not a multiple of train.workers {train.workers}. "
            "Make it one"
        )
    if not train.enabled:
        return
    if train.neighbours and ITEM_KNN not in models:
        yield f"train.neighbours: {train.neighbours} needs item_knn in baselines.models. Add it or set this key to 0"
    if train.start == SVD and SVD not in models:
        yield "train.start: svd needs svd in baselines.models. Add it or set this key to random"
    if train.start == SVD and train.dimension > config.baselines.svd.factors:
        yield (
            f"train.dimension: {train.dimension} is above baselines.svd.factors {config.baselines.svd.factors}, "
            "and train.start is svd. Lower the first or raise the second"
        )


def _lists(config: Config) -> Iterator[str]:
    score, evaluate = config.score, config.evaluate
    above = [k for k in (*evaluate.cutoffs, evaluate.gate_k) if k > score.top_n]
    if above:
        yield f"evaluate.cutoffs, gate_k: {above} above score.top_n {score.top_n}. Lower them or raise score.top_n"
    if evaluate.gate_k not in evaluate.cutoffs:
        yield f"evaluate.gate_k: {evaluate.gate_k} is not in evaluate.cutoffs {evaluate.cutoffs}. Add it there"
    if score.candidates < score.top_n:
        yield f"score.candidates: {score.candidates} is below score.top_n {score.top_n}. Raise it"
    has_categories = config.paths.items and config.clean.item_columns.category
    if score.diversity and not has_categories and ALS not in config.models:
        yield (
            "score.diversity: items can be compared neither by category nor by als vectors. "
            "Set paths.items and clean.item_columns.category, or add als to baselines.models"
        )
    if score.max_per_category and not has_categories:
        yield "score.max_per_category: there are no categories. Set paths.items and clean.item_columns.category"


def _input_files(config: Config) -> Iterator[str]:
    clean, columns = config.clean, config.clean.item_columns
    if clean.segment_by and not config.paths.users:
        yield "clean.segment_by: there is no users file. Set paths.users"
    if clean.require_known_items and not config.paths.items:
        yield "clean.require_known_items: there is no items file. Set paths.items"
    if CONTENT not in config.baselines.models:
        return
    if not config.paths.items:
        yield "baselines.models: content needs an items file. Set paths.items or remove content"
    if not (columns.title or columns.category or columns.text):
        yield (
            "clean.item_columns: title, category and text are all null, and content needs one of them. "
            "Name a column or remove content from baselines.models"
        )
