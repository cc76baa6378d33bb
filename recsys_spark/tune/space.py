"""What is searched: groups of config keys with their bounds or choices, read from space files and checked against the config's sections.

item_knn:                                                       the model, which is judged alone
  baselines.item_knn.user_power: {low: 0.3, high: 1.2}          from low to high; `log: true` for scales, whole where the key is
  baselines.item_knn.neighbours: [200, 1000]                    one of these
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
"""Significant digits of a number that is tried: an overlay says exactly what was judged, and a person can read it."""
OF_FUSION = ("score.candidates", "score.fusion", "score.drop")
"""Settings of the fusion that a search of all models may try beside theirs; the others would change what is measured, or nothing."""
_WAYS = "a list of choices, or {low: …, high: …} with log: true for a scale"


@dataclass(frozen=True)
class Group:
    """The keys of one model, by their dotted names."""

    model: str
    keys: Mapping[str, BaseDistribution]

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What is tried when the search suggests `params`: floats of DIGITS digits."""
        return {
            name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in params.items()
        }

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the search could come to `values`."""
        return all(_holds(distribution, values[name]) for name, distribution in self.keys.items())


def read(files: Sequence[Path], models: Collection[str], tunable: Collection[str]) -> list[Group]:
    """The groups of all `files`, in their order; `ConfigError` tells every fault of all of them.

    `models` are those that the config names, `tunable` those that can be judged; FUSED needs no name.
    """
    faults: list[str] = []
    groups: dict[str, Group] = {}
    sections = {name: _sections(name) for name in models}
    sections[FUSED] = (*(own for part in sections.values() for own in part), *OF_FUSION)
    for file in files:
        for model, keys in _tree(file, faults):
            where = f"{file}: {model}"
            if model in groups:
                faults.append(f"{where}: searched twice; leave it in one place")
            elif model not in tunable:
                faults.append(f"{where}: cannot be searched; these can: {', '.join(tunable)}")
            elif model not in {*models, FUSED}:
                faults.append(
                    f"{where}: the config does not name it; it has {', '.join(models)} (baselines.models, train.enabled)"
                )
            elif not isinstance(keys, dict) or not keys:
                faults.append(f"{where}: must hold keys of the config, each with {_WAYS}")
            else:
                groups[model] = Group(model, dict(_keys(where, sections[model], keys, faults)))
    if FUSED in groups and len(groups) > 1:
        faults.append(f"{FUSED}: has the settings of all models, so it is searched alone; leave the others out")
    if not groups and not faults:
        faults.append(f"{', '.join(map(str, files))}: nothing to search")
    if faults:
        raise ConfigError(faults)
    return list(groups.values())


def spec(distribution: BaseDistribution) -> Any:
    """A key's bounds or choices as a space file has them."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return {"low": distribution.low, "high": distribution.high, "log": distribution.log}


def _tree(file: Path, faults: list[str]) -> Iterator[tuple[str, Any]]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file}: cannot be read: {error}; --space takes files like conf/tune/als.yaml")
        return
    except yaml.YAMLError as error:
        faults.append(f"{file}: not YAML: {' '.join(str(error).split())}")
        return
    if not isinstance(tree, dict):
        faults.append(f"{file}: must hold models with the keys to search, found {type(tree).__name__}")
        return
    yield from ((str(model), keys) for model, keys in tree.items())


def _sections(model: str) -> tuple[str, ...]:
    return (f"{registry.entry(model).section}.", *(["features."] if model == NETWORK else []))


def _keys(
    where: str, sections: Sequence[str], keys: Mapping[Any, Any], faults: list[str]
) -> Iterator[tuple[str, BaseDistribution]]:
    for name, told in keys.items():
        if not any(name == own or (own.endswith(".") and str(name).startswith(own)) for own in sections):
            faults.append(
                f"{where}: {name}: not of this model's section, {' or '.join(s.rstrip('.') for s in sections)}; "
                "other keys would change what is measured, or nothing"
            )
            continue
        try:
            yield name, _distribution(name, told)
        except ValueError as error:
            faults += [f"{where}: {name}: {line}" for line in str(error).split("\n")]


def _distribution(name: str, told: Any) -> BaseDistribution:
    """`ValueError` with a line for each fault."""
    numbers = _numbers(field_of(name).annotation)
    if isinstance(told, list):
        _check(name, told)
        if len(told) < 2 or len(set(map(repr, told))) < len(told):
            raise ValueError(f"needs two choices or more, each once (found {told!r})")
        return CategoricalDistribution(told)
    if not isinstance(told, dict) or not {"low", "high"} <= set(told) <= {"low", "high", "log"}:
        raise ValueError(f"must be {_WAYS} (found {told!r})")
    if not numbers:
        raise ValueError(f"not a number: give a list of choices (found {told!r})")
    low, high, log = told["low"], told["high"], told.get("log", False)
    _check(name, [low, high])
    if not low < high:
        raise ValueError(f"low must be below high (found {told!r})")
    if log and not low > 0:
        raise ValueError(f"a scale needs low above 0 (found {told!r})")
    return (FloatDistribution if float in numbers else IntDistribution)(low, high, log=bool(log))


def _check(name: str, values: list[Any]) -> None:
    faults = [fault for value in values if (fault := fault_of(name, value))]
    if faults:
        raise ValueError("\n".join(faults))


def _numbers(annotation: Any) -> set[type]:
    """int and float, so far as a field's annotation allows them."""
    if annotation in (int, float):
        return {annotation}
    return set().union(*map(_numbers, get_args(annotation)))


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return value is not None and distribution.low <= value <= distribution.high
