"""Configuration = defaults (sections.py) + overlay file + `--set` overrides, checked as a whole: all faults at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from recsys_spark.config.sections import Config
from recsys_spark.errors import ConfigError


def load(overlay: Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration of `overlay` with `section.key=value` overrides; `ConfigError` names every fault of all of them."""
    tree, faults = read(overlay, overrides)
    return check(tree, overlay, faults)


def read(overlay: Path, overrides: Iterable[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """What `overlay` holds with `section.key=value` overrides, not checked; and the faults of the overrides."""
    tree, faults = _read(overlay), []
    for text in overrides:
        try:
            _override(tree, text)
        except ValueError as error:
            faults.append(f"--set {text}: {error}")
    return tree, faults


def check(tree: dict[str, Any], overlay: Path, faults: Iterable[str] = ()) -> Config:
    """The configuration of a tree; `ConfigError` names `faults` and all that the tree has, told of the file `overlay`."""
    tree, faults, config = deepcopy(tree), list(faults), None
    while config is None:
        tree.setdefault("paths", {})
        try:
            config = Config.model_validate(tree)
        except ValidationError as error:
            faults += [line for fault in error.errors() for line in _lines(dict(fault), overlay)]
            # rules between sections are checked only once every section is sound, so the faulty keys go and the rest is looked at again
            mended = [_mend(tree, fault["loc"]) for fault in error.errors()]
            if not all(mended):
                break
    if faults or config is None:
        raise ConfigError(faults)
    return config


def with_values(tree: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` with a value at each dotted key."""
    changed = deepcopy(tree)
    for key, value in values.items():
        _put(changed, key.split("."), value)
    return changed


def field_of(key: str) -> FieldInfo:
    """The field that a dotted key names; `ValueError` when it names none, or a section."""
    *above, name = key.split(".")
    if name not in _keys(tuple(above)):
        raise ValueError(_unknown(name, tuple(above)))
    if _keys((*above, name)):
        raise ValueError("a section, not a key")
    return _section(tuple(above)).model_fields[name]  # type: ignore[union-attr]


def fault_of(key: str, value: Any) -> str | None:
    """What the key's own type and bounds have against a value; None: nothing. Rules between keys are not asked."""
    field = field_of(key)
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    try:
        kind: Any = Annotated[field.annotation, field]
        TypeAdapter(kind, config=strict).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return f"{message[0].lower()}{message[1:]} (found {value!r})"
    return None


def render() -> str:
    """`conf/base.yaml`: every key with its default and, as a comment, its meaning and unit."""
    lines = [
        "# Every key of the job with its default. Rendered from recsys_spark/config/sections.py by `make conf`: change it there.",
        "# An overlay (conf/demo.yaml …) holds only what differs; paths.root and paths.events have no default.",
    ]
    _render(Config, lines, 0)
    return "\n".join(lines) + "\n"


def _read(overlay: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            [f"{overlay}: no such file; --config takes the path of an overlay, like conf/demo.yaml"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{overlay}: cannot be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{overlay}: not YAML: {' '.join(str(error).split())}"]) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError([f"{overlay}: must hold sections (paths:, clean:, …), found {type(tree).__name__}"])
    return {name: {} if section is None else section for name, section in tree.items()}


def _override(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    steps = key.strip().split(".")
    if not equals or len(steps) < 2 or not all(steps):
        raise ValueError("must read section.key=value")
    try:
        _put(tree, steps, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"value is not YAML: {' '.join(str(error).split())}") from error


def _put(tree: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            raise ValueError(f"{step} is a value, not a section")
        tree = below
    tree[steps[-1]] = value


def _lines(fault: dict[str, Any], overlay: Path) -> list[str]:
    where = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return [f"{overlay}: {where}: {_unknown(str(fault['loc'][-1]), fault['loc'][:-1])}"]
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and not where:
        return [f"{overlay}: {line}" for line in message.split("\n")]
    found = (
        ""
        if fault["type"] == "value_error" and isinstance(fault["input"], (dict, BaseModel))
        else f" (found {fault['input']!r})"
    )
    return [f"{overlay}: {where}: {message[0].lower()}{message[1:]}{found}"]


def _mend(tree: dict[str, Any], path: tuple[Any, ...]) -> bool:
    """Take the faulty key out of `tree`, or fill in one that has no default; False when there is nothing to take out."""
    for depth, step in enumerate(path):
        if path in (("paths", "root"), ("paths", "events")):
            tree.setdefault("paths", {})[path[1]] = "given"
            return True
        below = tree.get(step)
        if depth + 1 == len(path) or not isinstance(below, dict):
            return tree.pop(step, path) is not path
        tree = below
    return False


def _unknown(name: str, section: tuple[Any, ...]) -> str:
    close = difflib.get_close_matches(name, _keys(section), n=1)
    return f"unknown key; {f'did you mean {close[0]}?' if close else 'conf/base.yaml lists every key'}"


def _keys(path: tuple[Any, ...]) -> list[str]:
    section = _section(path)
    return list(section.model_fields) if section else []


def _section(path: tuple[Any, ...]) -> type[BaseModel] | None:
    model: Any = Config
    for step in path:
        field = model.model_fields.get(step)
        model = field.annotation if field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return None
    return model


def _render(model: Any, lines: list[str], depth: int) -> None:
    indent = "  " * depth
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=False)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += (
                ["", f"# {field.annotation.__doc__}".rstrip()] if depth == 0 else [f"{indent}# {field.description}"]
            )
            lines.append(f"{indent}{name}:")
            _render(field.annotation, lines, depth + 1)
        else:
            text = yaml.safe_dump(
                default, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False
            ).strip()
            lines += [f"{indent}# {field.description}", f"{indent}{name}: {text.removesuffix('...').strip()}"]
