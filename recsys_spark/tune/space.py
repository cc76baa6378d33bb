"""Reads search spaces: config keys of one model with their bounds or choices, checked against the config.

item_knn:                                                       the model, evaluated alone
  baselines.item_knn.user_power: {low: 0.3, high: 1.2}          a range; `log: true` for a logarithmic scale
  baselines.item_knn.neighbours: [200, 1000]                    a list of choices

A range of an integer key holds integers only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from recsys_spark import registry
from recsys_spark.columns import FUSED, NETWORK
from recsys_spark.config.load import fault_of, field_of
from recsys_spark.errors import ConfigError

DIGITS = 4
"""Significant digits of a suggested number, so that the overlay holds exactly the evaluated value."""
FUSION_KEYS = ("score.candidates", "score.fusion", "score.drop")
"""Keys that a search of the fused list may try beside those of the models."""
_FORMS = "a list of choices, or {low: …, high: …} with log: true for a logarithmic scale"
_OTHER_KEYS = "Other keys would change the measure, or nothing"


@dataclass(frozen=True)
class SearchSpace:
    """The keys that a search of one model changes, by their dotted names."""

    model: str
    keys: Mapping[str, BaseDistribution]

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings to try for Optuna's `params`. Floats are rounded to DIGITS digits."""
        return {
            name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in params.items()
        }

    def contains(self, values: Mapping[str, Any]) -> bool:
        return all(_contains(distribution, values[name]) for name, distribution in self.keys.items())


def read_spaces(files: Sequence[Path], models: Collection[str], tunable: Collection[str]) -> list[SearchSpace]:
    """Return the spaces of all `files`, in order. `ConfigError` lists every fault of all of them.

    `models` are the models in the config and `tunable` those that can be evaluated. The fused list needs no entry in
    the config.
    """
    faults: list[str] = []
    spaces: dict[str, SearchSpace] = {}
    prefixes = {name: _prefixes(name) for name in models}
    prefixes[FUSED] = (*(prefix for own in prefixes.values() for prefix in own), *FUSION_KEYS)
    for file in files:
        for model, keys in _models_of(file, faults):
            where = f"{file}: {model}"
            if model in spaces:
                faults.append(f"{where}: appears twice. Remove one of the two")
            elif model not in tunable:
                faults.append(f"{where}: cannot be searched. Choose from {', '.join(tunable)}")
            elif model not in {*models, FUSED}:
                faults.append(
                    f"{where}: is not in the config, which has {', '.join(models)}. "
                    "Add it by baselines.models or train.enabled"
                )
            elif not isinstance(keys, dict) or not keys:
                faults.append(f"{where}: must hold keys of the config, each with {_FORMS}")
            else:
                spaces[model] = SearchSpace(model, dict(_distributions(where, prefixes[model], keys, faults)))
    if FUSED in spaces and len(spaces) > 1:
        faults.append(f"{FUSED}: has the keys of all models and is searched alone. Remove the other models")
    if not spaces and not faults:
        faults.append(f"{', '.join(map(str, files))}: no model to search")
    if faults:
        raise ConfigError(faults)
    return list(spaces.values())


def as_written(distribution: BaseDistribution) -> Any:
    """Return the bounds or choices of a key in the form of a space file."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return {"low": distribution.low, "high": distribution.high, "log": distribution.log}


def _models_of(file: Path, faults: list[str]) -> Iterator[tuple[str, Any]]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file}: cannot be read: {error}. --space takes files like conf/tune/als.yaml")
        return
    except yaml.YAMLError as error:
        faults.append(f"{file}: is not YAML: {' '.join(str(error).split())}")
        return
    if not isinstance(tree, dict):
        faults.append(f"{file}: must map models to the keys to search (found {type(tree).__name__})")
        return
    yield from ((str(model), keys) for model, keys in tree.items())


def _prefixes(model: str) -> tuple[str, ...]:
    """Return the beginnings of the keys that a search of `model` may change."""
    return (f"{registry.entry(model).section}.", *(["features."] if model == NETWORK else []))


def _distributions(
    where: str, prefixes: Sequence[str], keys: Mapping[Any, Any], faults: list[str]
) -> Iterator[tuple[str, BaseDistribution]]:
    for name, entry in keys.items():
        if not any(name == own or (own.endswith(".") and str(name).startswith(own)) for own in prefixes):
            sections = " or ".join(prefix.rstrip(".") for prefix in prefixes)
            faults.append(f"{where}: {name}: is not in this model's section, {sections}. {_OTHER_KEYS}")
            continue
        try:
            yield name, _distribution(name, entry)
        except ValueError as error:
            faults += [f"{where}: {name}: {line}" for line in str(error).split("\n")]


def _distribution(name: str, entry: Any) -> BaseDistribution:
    """Return the distribution of a key; `ValueError` with one line per fault."""
    numbers = _number_types(field_of(name).annotation)
    if isinstance(entry, list):
        _check_values(name, entry)
        if len(entry) < 2 or len(set(map(repr, entry))) < len(entry):
            raise ValueError(f"needs at least two different choices, each once (found {entry!r})")
        return CategoricalDistribution(entry)
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
        raise ValueError(f"must be {_FORMS} (found {entry!r})")
    if not numbers:
        raise ValueError(f"is not a number, so it needs a list of choices (found {entry!r})")
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    _check_values(name, [low, high])
    if not low < high:
        raise ValueError(f"low must be below high (found {entry!r})")
    if log and not low > 0:
        raise ValueError(f"a logarithmic scale needs low above 0 (found {entry!r})")
    return (FloatDistribution if float in numbers else IntDistribution)(low, high, log=bool(log))


def _check_values(name: str, values: list[Any]) -> None:
    faults = [fault for value in values if (fault := fault_of(name, value))]
    if faults:
        raise ValueError("\n".join(faults))


def _number_types(annotation: Any) -> set[type]:
    """Return int and float as far as a field's annotation allows them."""
    if annotation in (int, float):
        return {annotation}
    return set().union(*map(_number_types, get_args(annotation)))


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return value is not None and distribution.low <= value <= distribution.high
