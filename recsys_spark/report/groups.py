"""The report's comparison of groups of users: accuracy, and how much their lists favour popular items."""

from __future__ import annotations

from typing import Any

from recsys_spark.metrics.popularity_bias import HEAD
from recsys_spark.report import plots
from recsys_spark.report.blocks import Block, Bullets, Figure, Table, Text
from recsys_spark.report.formatting import NONE, Estimate, bounds, cut, metric, signed, signed_bounds
from recsys_spark.report.run_facts import RunFacts

# by -> heading, unit in the plots, description of the grouping, name of a group in a sentence
_GROUPINGS = {
    "history": (
        "by length of history",
        " items",
        "quarters by length of history",
        "users with {} items",
    ),
    "segment": ("by segment", "", "segments of the users", "users of segment {}"),
    "popularity": (
        "by popularity of the history",
        "",
        f"thirds by the share of the history that is among the most popular {HEAD:.0%} of the items",
        "users with {} histories",
    ),
}
_LONGEST = 28


def groups(facts: RunFacts) -> list[Block]:
    """Return the blocks for each grouping with more than one group."""
    metrics = facts.metrics
    by_grouping = {by: [row for row in metrics.get("groups", []) if row["by"] == by] for by in _GROUPINGS}
    by_grouping = {by: rows for by, rows in by_grouping.items() if len(rows) > 1}
    if not by_grouping:
        return []
    gaps = {gap["by"]: gap for gap in metrics.get("gaps", [])}
    text = _introduction(metrics, list(by_grouping))
    blocks: list[Block] = [Text(text, title="Are all users served equally well?")]
    for by, rows in by_grouping.items():
        sentences = [*([_served(metrics, gaps[by])] if by in gaps else []), *_favoured(by, rows)]
        blocks += [_accuracy(metrics, by, rows), *_lift(by, rows), *([Bullets(sentences)] if sentences else [])]
        blocks.append(_table(facts, by, rows))
    return blocks


def _introduction(metrics: dict[str, Any], groupings: list[str]) -> str:
    text = f"The first {metrics['gate_k']} items of the blend are compared between groups of users: "
    text += f"{'; '.join(_GROUPINGS[by][2] for by in groupings)}. The popularity of an item is its number of users. "
    text += "The lift says how much more popular the lists are than the histories. The gap is the "
    text += "difference between the best and the worst group. Its interval accounts for choosing these two afterwards."
    return text


def _served(metrics: dict[str, Any], gap: dict[str, Any]) -> str:
    by, ndcg = gap["by"], gap["ndcg"]
    values = {row["group"]: metric(row["metrics"]["ndcg"]["mean"]) for row in metrics["groups"] if row["by"] == by}
    best, worst = (_name(by, gap[end]) for end in ("best", "worst"))
    figures = f"NDCG@{metrics['gate_k']} {values[gap['worst']]} and {values[gap['best']]}, "
    figures += f"a gap of {metric(ndcg['mean'])}, interval {signed_bounds(ndcg)}"
    start = f"{_heading(by).capitalize()}, "
    if ndcg["low"] > 0:
        return f"{start}{worst} are served worst and {best} best ({figures})."
    return f"{start}no group is served significantly worse. Lowest: {worst}; highest: {best} ({figures})."


def _favoured(by: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return a sentence on the group with the largest lift; none where no lift is known."""
    known = [row for row in rows if _has_lift(row)]
    if not known:
        return []
    certain = [row for row in known if row["popularity"]["lift"]["low"] > 0]
    row = max(certain or known, key=lambda row: row["popularity"]["lift"]["mean"])
    popularity, lift = row["popularity"], row["popularity"]["lift"]
    figures = f"{_users(popularity['list'])} users for a listed item and {_users(popularity['profile'])} for an item "
    figures += f"of the history, {signed(lift['mean'], '.1%')}, interval {signed_bounds(lift, '.1%')}"
    if certain:
        return [f"The lists favour popular items most for {_name(by, row['group'])} ({figures})."]
    return [
        f"No group's lists favour popular items significantly. Largest lift: {_name(by, row['group'])} ({figures})."
    ]


def _accuracy(metrics: dict[str, Any], by: str, rows: list[dict[str, Any]]) -> Figure:
    estimates = [row["metrics"]["ndcg"] for row in rows]
    svg = plots.intervals(_labels(by, rows), estimates, plots.ACCENT, f"NDCG@{metrics['gate_k']} of the blend")
    low, high = (f"{end(row['users'] for row in rows):,}" for end in (min, max))
    sizes = low if low == high else f"{low} to {high}"
    caption = f"Each dot is a group of {sizes} users, the line its interval. Further right is better."
    return Figure(f"How accurate are the lists, {_heading(by)}?", svg, caption)


def _lift(by: str, rows: list[dict[str, Any]]) -> list[Block]:
    known = [row for row in rows if _has_lift(row)]
    if not known:
        return []
    x = "popularity lift"
    estimates = [row["popularity"]["lift"] for row in known]
    svg = plots.intervals(_labels(by, known), estimates, plots.SECOND, x, differences=True, form=".0%")
    caption = "Right of 0, the lists of a group are more popular than its histories; left of 0, less popular."
    return [Figure(f"Do the lists favour popular items, {_heading(by)}?", svg, caption)]


def _table(facts: RunFacts, by: str, rows: list[dict[str, Any]]) -> Table:
    metrics = facts.metrics
    head = ("group", "users", "NDCG", "interval", "best single", "history", "list", "lift", "interval")
    hints = {
        2: f"NDCG@{metrics['gate_k']} of the blend",
        4: f"NDCG of {facts.label(metrics['best_single']).label}, the best single model, for the same users",
        5: "popularity of the histories: mean number of users of their items",
        6: "popularity of the lists: mean number of users of their items",
        7: "how much more popular the lists are than the histories",
    }
    title = f"Metrics {_heading(by)}"
    return Table(title, head, [_row(row) for row in rows], frozenset(range(1, len(head))), hints=hints)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    ndcg, single, popularity = row["metrics"]["ndcg"], row.get("best_single"), row.get("popularity", {})
    lift: Estimate | None = popularity["lift"] if _has_lift(row) else None
    return (
        cut(row["group"], _LONGEST),
        f"{row['users']:,}",
        metric(ndcg["mean"]),
        bounds(ndcg),
        metric(single["ndcg"]["mean"]) if single else NONE,
        _users(popularity.get("profile")),
        _users(popularity.get("list")),
        signed(lift["mean"], ".1%") if lift else NONE,
        signed_bounds(lift, ".1%") if lift else NONE,
    )


def _has_lift(row: dict[str, Any]) -> bool:
    """Return whether a group has a lift with bounds. A group without histories, or only of new items, has none."""
    return None not in (row.get("popularity") or {"lift": {"mean": None}})["lift"].values()


def _heading(by: str) -> str:
    return _GROUPINGS[by][0]


def _name(by: str, group: str) -> str:
    """Return the name of a group in a sentence."""
    return _GROUPINGS[by][3].format(cut(group, _LONGEST))


def _labels(by: str, rows: list[dict[str, Any]]) -> list[str]:
    return [cut(row["group"], _LONGEST) + _GROUPINGS[by][1] for row in rows]


def _users(value: float | None) -> str:
    """Return a number of users, with one decimal below 10."""
    if value is None:
        return NONE
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
