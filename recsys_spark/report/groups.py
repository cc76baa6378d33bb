"""The report's words, plots and tables on whether all kinds of users are served alike, and whether their lists lean to what is popular."""

from __future__ import annotations

from typing import Any

from recsys_spark.metrics.popularity_bias import HEAD
from recsys_spark.report import formatting, plots
from recsys_spark.report.blocks import Block, Bullets, Figure, Table, Text
from recsys_spark.report.formatting import metric, signed

# by -> title, the plots' unit, how the groups were made, a group in a sentence
_GROUPINGS = {
    "history": (
        "By length of history",
        " items",
        "quarters of the users by length of history",
        "users with {} items",
    ),
    "segment": ("By segment", "", "the segments that the log names", "users of segment {}"),
    "taste": (
        "By taste for what is popular",
        "",
        f"thirds of the users by the share of their history that is among the most popular {HEAD:.0%} of the items",
        "users whose taste is {}",
    ),
}
_LONGEST = 28


def groups(found: dict[str, Any]) -> list[Block]:
    """Blocks for each grouping of more than one group; none without any."""
    told = {by: [row for row in found.get("groups", []) if row["by"] == by] for by in _GROUPINGS}
    told = {by: rows for by, rows in told.items() if len(rows) > 1}
    if not told:
        return []
    gaps = {gap["by"]: gap for gap in found.get("gaps", [])}
    blocks: list[Block] = [Text(_how(found, list(told)))]
    for by, rows in told.items():
        said = [*([_served(found, gaps[by])] if by in gaps else []), *_leaning(by, rows)]
        blocks += [_accuracy(found, by, rows), *_lift(by, rows), *([Bullets(said)] if said else [])]
        blocks.append(_table(found, by, rows))
    return blocks


def _how(found: dict[str, Any], told: list[str]) -> str:
    parts = "; ".join(_GROUPINGS[by][2] for by in told)
    text = f"Are all kinds of users served alike? The blend's lists of {found['gate_k']}, by {parts}. "
    text += (
        "An item is as popular as it has users; the lift says how much more popular the lists are than the histories. "
    )
    text += "The gap is between the groups that came out highest and lowest. Some groups always do, so its interval is wide enough for any two of them."
    return text


def _served(found: dict[str, Any], gap: dict[str, Any]) -> str:
    """Who is served worst, in a sentence, or that it cannot be told."""
    by, ndcg, what = gap["by"], gap["ndcg"], f"NDCG@{found['gate_k']}"
    values = {row["group"]: metric(row["metrics"]["ndcg"]["mean"]) for row in found["groups"] if row["by"] == by}
    best, worst = (_name(by, gap[end]) for end in ("best", "worst"))
    figures = f"{what} {values[gap['worst']]} against {values[gap['best']]}"
    figures += f", a gap of {metric(ndcg['mean'])}, interval {signed(ndcg['low'])} to {signed(ndcg['high'])}"
    if ndcg["low"] <= 0:
        return f"{_title(by)}, the lowest and the highest cannot be told apart: {worst} and {best} ({figures})."
    return f"{_title(by)}, {worst} are served worst and {best} best ({figures})."


def _leaning(by: str, rows: list[dict[str, Any]]) -> list[str]:
    """Whose lists are moved most towards popular items, in a sentence; none where no lift is known."""
    known = [row for row in rows if _lifted(row)]
    if not known:
        return []
    sure = [row for row in known if row["popularity"]["lift"]["low"] > 0]
    row = max(sure or known, key=lambda row: row["popularity"]["lift"]["mean"])
    found, who = row["popularity"], _name(by, row["group"])
    figures = (
        f"items that {_users(found['list'])} users have on average, after {_users(found['profile'])} in their histories"
    )
    figures += f" ({_percent(found['lift']['mean'])}, interval {_percents(found['lift'])})"
    if sure:
        return [f"The lists lean most to the popular for {who}: {figures}."]
    return [f"No group's lists surely lean to the popular; the largest lift is that of {who}: {figures}."]


def _accuracy(found: dict[str, Any], by: str, rows: list[dict[str, Any]]) -> Figure:
    spans = [_span(row["metrics"]["ndcg"]) for row in rows]
    svg = plots.intervals(_labels(by, rows), spans, plots.ACCENT, f"NDCG@{found['gate_k']} of the blend")
    low, high = (f"{end(row['users'] for row in rows):,}" for end in (min, max))
    sizes = low if low == high else f"{low} to {high}"
    how = f"Who is served well: each dot is a group of {sizes} users, the line its interval."
    return Figure(_title(by), svg, how)


def _lift(by: str, rows: list[dict[str, Any]]) -> list[Block]:
    known = [row for row in rows if _lifted(row)]
    if not known:
        return []
    spans = [_span(row["popularity"]["lift"]) for row in known]
    x = "popularity, lists against histories"
    svg = plots.intervals(_labels(by, known), spans, plots.SECOND, x, signed=True, form=".0%")
    how = "Right of 0 a group gets more popular items than it chose itself, left of it less popular ones."
    return [Figure(f"Popularity lift, {_title(by).lower()}", svg, how)]


def _table(found: dict[str, Any], by: str, rows: list[dict[str, Any]]) -> Table:
    single = found["best_single"]
    head = ("group", "users", "NDCG", "interval", "alone", "had", "get", "lift", "interval")
    hints = {
        2: f"of the blend, at {found['gate_k']}",
        4: f"NDCG of {formatting.model(single)}, the best single model, for the same users",
        5: "popularity of what they had: users who have the items of the histories, on average",
        6: "popularity of what they get: users who have the items of the lists, on average",
        7: "how much more popular the lists are than the histories",
    }
    title = f"In numbers, {_title(by).lower()}"
    return Table(title, head, [_row(row) for row in rows], frozenset(range(1, len(head))), hints=hints)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    own, single, bias = row["metrics"]["ndcg"], row.get("best_single"), row.get("popularity", {})
    lift = bias["lift"] if _lifted(row) else None
    return (
        formatting.cut(row["group"], _LONGEST),
        f"{row['users']:,}",
        metric(own["mean"]),
        f"{metric(own['low'])}–{metric(own['high'])}",
        metric(single["ndcg"]["mean"]) if single else formatting.NONE,
        _users(bias.get("profile")),
        _users(bias.get("list")),
        _percent(lift["mean"]) if lift else formatting.NONE,
        _percents(lift) if lift else formatting.NONE,
    )


def _lifted(row: dict[str, Any]) -> bool:
    """Whether the lift of a group is known, with its interval: nobody has a history in some, and others had only what no one has."""
    return None not in (row.get("popularity") or {"lift": {"mean": None}})["lift"].values()


def _title(by: str) -> str:
    return _GROUPINGS[by][0]


def _name(by: str, group: str) -> str:
    """A group as it stands in a sentence."""
    return _GROUPINGS[by][3].format(formatting.cut(group, _LONGEST))


def _labels(by: str, rows: list[dict[str, Any]]) -> list[str]:
    return [formatting.cut(row["group"], _LONGEST) + _GROUPINGS[by][1] for row in rows]


def _span(estimate: dict[str, float]) -> tuple[float, float, float]:
    return estimate["mean"], estimate["low"], estimate["high"]


def _percent(value: float) -> str:
    return signed(value, ".1%")


def _percents(estimate: dict[str, float]) -> str:
    return f"{_percent(estimate['low'])} to {_percent(estimate['high'])}"


def _users(value: float | None) -> str:
    """Whole users, and of few a tenth."""
    if value is None:
        return formatting.NONE
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
