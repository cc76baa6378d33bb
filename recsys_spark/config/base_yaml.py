"""Renders `conf/base.yaml`: every key with its default and its meaning. `make conf` runs it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from recsys_spark.config.config import Config
from recsys_spark.config.section import Section

WIDTH = 120
HEAD = """\
# Every key with its default value. Rendered from recsys_spark/config/ by `make conf`, so change it there.
# An overlay such as conf/demo.yaml holds only what differs. paths.root and paths.events have no default.
"""


def render() -> str:
    """Return the text of `conf/base.yaml`."""
    return HEAD + "\n".join(_lines(Config, "")) + "\n"


def _lines(section: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            if not indent:
                yield ""
            yield from _comment(str(field.annotation.__doc__), indent)
            yield f"{indent}{name}:"
            yield from _lines(field.annotation, indent + "  ")
        else:
            yield from _comment(str(field.description), indent)
            yield f"{indent}{name}: {_value(field.default)}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _value(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.strip().removesuffix("...").strip()
