"""Loads the configuration: defaults of the sections, overlay and `--set` overrides. Reports all faults at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from recsys_spark.columns import FORMER_NAMES
from recsys_spark.config.config import Config
from recsys_spark.errors import ConfigError

RENAMED = {f"baselines.{old}": f"baselines.{new}" for old, new in FORMER_NAMES.items()}
"""Dotted keys of earlier versions and their new names."""


def load(overlay: Path, overrides: Iterable[str] = ()) -> Config:
    """Return the configuration of `overlay` with overrides `section.key=value`; `ConfigError` with every fault."""
    tree, faults = read(overlay, overrides)
    return check(tree, overlay, faults)


def read(overlay: Path, overrides: Iterable[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Return the unchecked content of `overlay` with overrides `section.key=value`, and the faults of the overrides."""
    tree, faults = _read(overlay), []
    for text in overrides:
        try:
            _override(tree, text)
        except ValueError as error:
            faults.append(f"--set {text}: {error}")
    return tree, faults


def check(tree: dict[str, Any], overlay: Path, faults: Iterable[str] = ()) -> Config:
    """Return the configuration of `tree`; `ConfigError` with `faults` and those of the tree, which name `overlay`."""
    tree, faults, config = deepcopy(tree), list(faults), None
    while config is None:
        tree.setdefault("paths", {})
        try:
            config = Config.model_validate(tree)
        except ValidationError as error:
            faults += [line for fault in error.errors() for line in _lines(dict(fault), overlay)]
            # pydantic checks the rules across sections only when all sections are valid, so drop the faulty keys and
            # check again
            repaired = [_repair(tree, fault["loc"]) for fault in error.errors()]
            if not all(repaired):
                break
    if faults or config is None:
        raise ConfigError(faults)
    return config


def with_values(tree: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `tree` with `values` at their dotted keys."""
    changed = deepcopy(tree)
    for key, value in values.items():
        _put(changed, key.split("."), value)
    return changed


def field_of(key: str) -> FieldInfo:
    """Return the field of a dotted key; `ValueError` if the key is unknown or a section."""
    *path, name = steps = key.split(".")
    for depth, step in enumerate(steps):
        if step not in _keys(steps[:depth]):
            raise ValueError(_unknown(step, steps[:depth]))
    if _keys(steps):
        raise ValueError("a section, not a key")
    return _section(path).model_fields[name]  # type: ignore[union-attr]


def fault_of(key: str, value: Any) -> str | None:
    """Return why the type or bounds of a dotted key forbid `value`, or None. Rules across keys are not checked."""
    field = field_of(key)
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    try:
        kind: Any = Annotated[field.annotation, field]
        TypeAdapter(kind, config=strict).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return f"{message[0].lower()}{message[1:]} (found {value!r})"
    return None


def _read(overlay: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            [f"{overlay}: no such file. Give --config the path of an overlay like conf/demo.yaml"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{overlay}: cannot be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{overlay}: not YAML: {' '.join(str(error).split())}"]) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError([f"{overlay}: expected sections (paths:, clean:, …), found {type(tree).__name__}"])
    return {name: {} if section is None else section for name, section in tree.items()}


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    steps = key.strip().split(".")
    if not equals or len(steps) < 2 or not all(steps):
        raise ValueError("expected section.key=value")
    try:
        _put(tree, steps, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"the value is not YAML: {' '.join(str(error).split())}") from error


def _put(tree: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            raise ValueError(f"{step} is a value, not a section")
        tree = below
    tree[steps[-1]] = value


def _lines(fault: dict[str, Any], overlay: Path) -> list[str]:
    """Return one of pydantic's errors as lines of ours."""
    path = [str(step) for step in fault["loc"]]
    where = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return [f"{overlay}: {where}: {_unknown(path[-1], path[:-1])}"]
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and not where:
        return [f"{overlay}: {line}" for line in message.split("\n")]
    whole_section = fault["type"] == "value_error" and isinstance(fault["input"], (dict, BaseModel))
    found = "" if whole_section else f" (found {fault['input']!r})"
    return [f"{overlay}: {where}: {message[0].lower()}{message[1:]}{found}"]


def _repair(tree: dict[str, Any], path: tuple[Any, ...]) -> bool:
    """Remove the faulty key from `tree`, or fill in a required path. Return False if neither is possible."""
    if path in (("paths", "root"), ("paths", "events")):
        tree["paths"][path[1]] = "filled in"
        return True
    for depth, step in enumerate(path):
        below = tree.get(step)
        if depth + 1 == len(path) or not isinstance(below, dict):
            return tree.pop(step, path) is not path
        tree = below
    return False


def _unknown(name: str, section: list[str]) -> str:
    key = ".".join([*section, name])
    if key in RENAMED:
        return f"this key is now called {RENAMED[key]}. Use the new name"
    close = difflib.get_close_matches(name, _keys(section), n=1)
    return f"unknown key. {f'Did you mean {close[0]}?' if close else 'conf/base.yaml lists every key'}"


def _keys(path: list[str]) -> list[str]:
    section = _section(path)
    return list(section.model_fields) if section else []


def _section(path: list[str]) -> type[BaseModel] | None:
    section: Any = Config
    for step in path:
        field = section.model_fields.get(step)
        section = field.annotation if field else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
    return section
