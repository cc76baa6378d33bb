"""The building blocks of a report section. The template renders exactly these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """One paragraph, with a heading or without."""

    text: str
    title: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Note:
    """A sentence that says what is missing, and why."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Figure:
    """An inline SVG. The caption says how to read it."""

    title: str
    svg: str
    caption: str
    kind: str = "figure"


@dataclass(frozen=True)
class Table:
    """A table of text cells. Columns are given by position."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    """Columns that are right-aligned."""
    best: frozenset[tuple[int, int]] = frozenset()
    """Cells in bold, as (row, column)."""
    hints: dict[int, str] = field(default_factory=dict)
    """Explanation of a column, shown when the pointer rests on its head."""
    folded: bool = False
    """Whether the table is hidden until the reader opens it."""
    dots: Sequence[str] = ()
    """Colour of each row's dot."""
    dot_column: int = 0
    half: bool = False
    """Whether the table takes half the width of the page."""
    wide: frozenset[int] = frozenset()
    """Columns of prose."""
    raw: frozenset[int] = frozenset()
    """Columns of code."""
    kind: str = "table"


@dataclass(frozen=True)
class GateTable:
    """The result of each gate: dictionaries with `title`, `gate`, `passed`, `message`."""

    gates: Sequence[dict[str, Any]]
    kind: str = "gates"


@dataclass(frozen=True)
class Users:
    """Example users, as `examples.json` has them, with the first `shown` items of their lists."""

    users: Sequence[dict[str, Any]]
    shown: int
    kind: str = "users"


Block = Text | Note | Bullets | Figure | Table | GateTable | Users


@dataclass(frozen=True)
class ReportSection:
    """`anchor` is the link of the section, `title` the question it answers."""

    anchor: str
    title: str
    blocks: Sequence[Block]
