"""The report's section on what came in: rows kept and quarantined, events over time, missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_spark.columns import FUSED
from recsys_spark.report import formatting, plots
from recsys_spark.report.blocks import Block, Figure, Note, Table, Text
from recsys_spark.report.formatting import number
from recsys_spark.report.run_facts import RunFacts


def clean(facts: RunFacts, bad_rows: list[dict[str, Any]]) -> list[Block]:
    """`bad_rows` as `examples.bad_rows` gives them."""
    counts = facts.counts("clean")
    bad, rows = counts.get("quarantined", 0), counts.get("rows_in", 0)
    text = f"{number(rows)} rows came in and {number(counts.get('interactions', 0))} became interactions"
    if "events_first" in counts and "events_last" in counts:
        text += f", from {counts['events_first'][:10]} to {counts['events_last'][:10]}"
    text += f". There are {number(counts.get('users'))} users and {number(counts.get('items'))} items; "
    text += (
        f"{number(counts.get('new_users'))} users and {number(counts.get('new_items'))} items were never seen before. "
    )
    text += f"{number(bad)} rows ({formatting.share(bad / rows if rows else 0.0)}) were quarantined."
    pictures = [
        _quarantine(counts.get("quarantined_by_reason") or {}),
        _events(counts.get("events_by_month") or []),
    ]
    return [Text(text), *pictures, *_bad_rows(bad_rows), *_missing(counts)]


def _quarantine(reasons: dict[str, int]) -> Block:
    ordered = sorted(((n, name) for name, n in reasons.items() if n), key=lambda pair: (-pair[0], pair[1]))
    if not ordered:
        return Note("No row was quarantined.")
    numbers, names = [n for n, _ in ordered], [formatting.reason(name) for _, name in ordered]
    svg = plots.bars(names, numbers, [number(n) for n in numbers], plots.COLOURS[FUSED])
    how = "Each bar counts the rows that one rule took out; a bar that grows overnight means that a source has changed."
    return Figure("Quarantined rows by reason", svg, how)


def _events(by_month: Sequence[tuple[str, int]]) -> Block:
    if not by_month:
        return Note("The log has no times, so there is no picture of events over time.")
    found = dict(by_month)
    months = _months(min(found), max(found))
    svg = plots.columns(months, [found.get(month, 0) for month in months])
    how = "Each bar counts the interactions of one month; a gap is a month whose events never arrived."
    return Figure("Interactions over time", svg, how)


def _months(first: str, last: str) -> list[str]:
    """All months from `first` to `last`, as YYYY-MM."""
    start, end = (int(month[:4]) * 12 + int(month[5:7]) - 1 for month in (first, last))
    return [f"{m // 12:04d}-{m % 12 + 1:02d}" for m in range(start, end + 1)]


def _bad_rows(rows: list[dict[str, Any]]) -> list[Block]:
    if not rows:
        return []
    names = [(formatting.reason(row["reason"]), row["source_file"].rsplit("/", 1)[-1]) for row in rows]
    cells = [
        (name, r["detail"] or formatting.NONE, formatting.cut(r["row"]), file) for (name, file), r in zip(names, rows)
    ]
    head = ("reason", "what was met", "the row as it came", "file")
    return [Table("A quarantined row of each kind", head, cells, wide=frozenset({2}), raw=frozenset({1, 2}))]


def _missing(counts: dict[str, Any]) -> list[Block]:
    totals = {"items": counts.get("items"), "users": counts.get("users"), "events": counts.get("rows_in")}
    missing = sorted((name, n) for name, n in (counts.get("missing") or {}).items() if n)
    of = [totals.get(name.split(".")[0]) for name, _ in missing]
    cells = [(name, number(n), formatting.share(n / total if total else None)) for (name, n), total in zip(missing, of)]
    head = ("column", "rows without it", "share")
    return [Table("Values that are missing", head, cells, frozenset({1, 2}), half=True)] if cells else []
