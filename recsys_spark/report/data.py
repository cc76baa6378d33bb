"""The report's sections on data: which rows came in (clean), and which interactions are held out (split)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_spark.report import plots
from recsys_spark.report.blocks import Block, Figure, Note, Table, Text
from recsys_spark.report.formatting import NONE, cut, number, share
from recsys_spark.report.run_facts import RunFacts

_HIDDEN = {
    "last_n": "the last items of each user",
    "temporal": "the last days of the log",
    "random": "random items of each user",
}


def clean(facts: RunFacts, bad_rows: Sequence[dict[str, str]]) -> list[Block]:
    """`bad_rows` are dictionaries with reason, detail, row and source_file."""
    counts = facts.counts("clean", None)
    bad, rows = counts.get("quarantined", 0), counts.get("rows_in", 0)
    text = f"{number(rows)} rows were read and {number(counts.get('interactions', 0))} became interactions"
    if "events_first" in counts and "events_last" in counts:
        text += f", from {counts['events_first'][:10]} to {counts['events_last'][:10]}"
    text += f". There are {number(counts.get('users'))} users and {number(counts.get('items'))} items; "
    text += f"{number(counts.get('new_users'))} users and {number(counts.get('new_items'))} items are new. "
    text += f"{number(bad)} rows ({share(bad / rows if rows else 0.0)}) were quarantined."
    figures = [_quarantine(counts.get("quarantined_by_reason") or {}), _events(counts.get("events_by_month") or [])]
    return [Text(text), *figures, *_bad_rows(bad_rows), *_missing(counts)]


def split(facts: RunFacts) -> list[Block]:
    counts = facts.counts("split")
    hidden = _HIDDEN.get(facts.settings("split").get("method", ""), "some items")
    train, valid, test, users = (number(counts.get(n)) for n in ("train", "valid", "test", "users_with_test"))
    text = f"In the backtest, {hidden} are hidden from the models. {train} user–item pairs are for training, "
    text += f"{valid} for validation and {test} for testing"
    text += f", the latter from {users} users. " if "users_with_test" in counts else ". "
    cold = {"users_with_cold_user": "users", "cold_item": "pairs of other users with held-out items"}
    whole = [f"{number(counts[name])} {what}" for name, what in cold.items() if counts.get(name)]
    if whole:
        text += f"To measure cold start, these are held out completely: {' and '.join(whole)}. "
    return [Text(text + "The models of the new table are trained on all interactions.")]


def _quarantine(reasons: dict[str, int]) -> Block:
    ordered = sorted(((n, name) for name, n in reasons.items() if n), key=lambda pair: (-pair[0], pair[1]))
    if not ordered:
        return Note("No row was quarantined.")
    numbers, names = [n for n, _ in ordered], [_words(name) for _, name in ordered]
    svg = plots.bars(names, numbers, [number(n) for n in numbers], plots.HIGHLIGHT)
    caption = "Number of rows that each rule quarantined. A bar that grows suddenly points to a change in a source."
    return Figure("Why were rows quarantined?", svg, caption)


def _events(by_month: Sequence[tuple[str, int]]) -> Block:
    if not by_month:
        return Note("The log has no timestamps, so interactions over time are not shown.")
    counts = dict(by_month)
    months = months_between(min(counts), max(counts))
    svg = plots.columns(months, [counts.get(month, 0) for month in months])
    caption = "Number of interactions in each month. An empty month points to missing files."
    return Figure("How many interactions are there over time?", svg, caption)


def months_between(first: str, last: str) -> list[str]:
    """Return all months from `first` to `last`, as YYYY-MM."""
    start, end = (int(month[:4]) * 12 + int(month[5:7]) - 1 for month in (first, last))
    return [f"{m // 12:04d}-{m % 12 + 1:02d}" for m in range(start, end + 1)]


def _bad_rows(rows: Sequence[dict[str, str]]) -> list[Block]:
    if not rows:
        return []
    head = ("reason", "detail", "row as delivered", "file")
    cells = [
        (_words(r["reason"]), r["detail"] or NONE, cut(r["row"]), r["source_file"].rsplit("/", 1)[-1]) for r in rows
    ]
    title = "What do quarantined rows look like? One example for each reason"
    return [Table(title, head, cells, wide=frozenset({2}), raw=frozenset({1, 2}))]


def _missing(counts: dict[str, Any]) -> list[Block]:
    totals = {"items": counts.get("items"), "users": counts.get("users"), "events": counts.get("rows_in")}
    missing = sorted((name, n) for name, n in (counts.get("missing") or {}).items() if n)
    cells = []
    for name, n in missing:
        total = totals.get(name.split(".")[0])
        cells.append((name, number(n), share(n / total if total else None)))
    head = ("column", "rows without a value", "share")
    return [Table("Which values are missing?", head, cells, frozenset({1, 2}), half=True)] if cells else []


def _words(name: str) -> str:
    return name.replace("_", " ")
