"""The pieces a report section is made of. The template knows these and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """A sentence or two."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Note:
    """A word about what is missing, and why."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Figure:
    """An inline SVG with its title and one sentence that says how to read it."""

    title: str
    svg: str
    how: str
    kind: str = "figure"


@dataclass(frozen=True)
class Table:
    """`numeric` are the positions of the columns that are right-aligned; `best` holds (row, column) of the cells to stand out;
    `hints` are explanations of the columns' heads; `folded` hides it behind its title; `half` lets it stand beside another
    block; `marks` puts a dot of a colour into `mark_column` of a row; `wide` columns hold prose, `raw` ones code."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    best: frozenset[tuple[int, int]] = frozenset()
    hints: dict[int, str] = field(default_factory=dict)
    folded: bool = False
    marks: dict[int, str] = field(default_factory=dict)
    mark_column: int = 0
    half: bool = False
    wide: frozenset[int] = frozenset()
    raw: frozenset[int] = frozenset()
    kind: str = "table"


@dataclass(frozen=True)
class Gates:
    """The verdict, gate by gate: dictionaries with `title`, `passed`, `message`."""

    gates: Sequence[dict[str, Any]]
    kind: str = "gates"


@dataclass(frozen=True)
class Users:
    """The example users, as `examples.describe` gives them."""

    users: Sequence[dict[str, Any]]
    shown: int
    kind: str = "users"


Block = Text | Note | Bullets | Figure | Table | Gates | Users


@dataclass(frozen=True)
class Section:
    """`word` is the stage's, and the anchor; `title` says what it is about."""

    word: str
    title: str
    blocks: Sequence[Block]
