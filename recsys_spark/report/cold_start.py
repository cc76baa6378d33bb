"""The report's section on newcomers: users and items that were held out whole, and what the night did with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_spark.columns import COLD_START, FUSED, MODELS, POPULARITY, SEGMENT
from recsys_spark.report import formatting, plots
from recsys_spark.report.blocks import Block, Figure, Note, Table, Text
from recsys_spark.report.formatting import number
from recsys_spark.report.run_facts import RunFacts

CHANCE = "chance"
_METRICS = ("ndcg", "recall", "hit_rate")
_LISTS = {SEGMENT: "By segment", POPULARITY: "Everybody's"}
_NOT_ASKED = "Nobody was held out whole in this run (split.cold_user_share, split.cold_item_share), so how newcomers fare was not measured."
_NO_USERS = "The share of the users to hold out whole came to nobody."
_NO_ITEMS = "Items were held out whole, and no model of this run can tell items that nobody chose apart; content can, and a network with content features."
_SHADES = {SEGMENT: plots.ACCENT, POPULARITY: plots.colour(POPULARITY)}


def newcomers(facts: RunFacts) -> list[Block]:
    found, shares = facts.metrics.get(COLD_START) or {}, facts.settings("split")
    blocks: list[Block] = []
    for what, tell, missing in (("user", _users, _NO_USERS), ("item", _items, _NO_ITEMS)):
        if f"{what}s" in found:
            blocks += tell(found[f"{what}s"], facts)
        elif shares.get(f"cold_{what}_share"):
            blocks.append(Note(missing))
    return blocks or [Note(_NOT_ASKED)]


def _users(found: dict[str, Any], facts: RunFacts) -> list[Block]:
    k, lists = facts.metrics["gate_k"], found["lists"]
    segments = facts.settings("clean").get("clean", {}).get("segment_by")
    text = f"New users: {number(found['users'])} were hidden whole and then served as the night serves whom it has never seen, with what is most popular "
    if segments:
        text += f"in their segment ({', '.join(segments)}). {_told(found['difference']['ndcg'], k)}"
    else:
        text += "with everybody. Users have no segments here (clean.segment_by), so the two lists are one."
    spans, shades = [_span(lists[name]["ndcg"]) for name in _LISTS], [_SHADES[name] for name in _LISTS]
    svg = plots.intervals(list(_LISTS.values()), spans, shades, f"NDCG@{k}")
    how = "What is popular among users alike, against what is popular. The line is the interval."
    rows = [(title, *_cells(lists[name])) for name, title in _LISTS.items()]
    table = _table(f"New users, lists of {k}", "popularity", rows, dict(enumerate(shades)))
    return [Text(text), Figure(f"New users: NDCG@{k}", svg, how), table]


def _told(gap: dict[str, float], k: int) -> str:
    figures = f"NDCG@{k} {formatting.signed(gap['mean'])}, interval {formatting.signed(gap['low'])} to {formatting.signed(gap['high'])}"
    if gap["low"] <= 0 <= gap["high"]:
        return f"Whether that beats what is popular with everybody cannot be told ({figures})."
    return f"That is {'better' if gap['mean'] > 0 else 'worse'} than what is popular with everybody ({figures})."


def _items(found: dict[str, Any], facts: RunFacts) -> list[Block]:
    k, chance = facts.metrics["gate_k"], found[CHANCE]
    models = {name: found["models"][name] for name in (*MODELS, FUSED) if name in found["models"]}
    spans = [*(_span(models[name]["recall"]) for name in models), (chance["recall"],) * 3]
    names, shades = (
        [*map(formatting.model, models), "By lot"],
        [plots.colour(name) for name in (*models, CHANCE)],
    )
    svg = plots.intervals(names, spans, shades, f"recall@{k} among the new items")
    how = "Do the new items find the users who chose them? A line that begins to the right of the dot by lot says yes."
    by_lot = [formatting.metric(chance.get(name)) for name in _METRICS]
    rows = [
        *((formatting.model(name), *_cells(models[name])) for name in models),
        ("By lot", by_lot[0], formatting.NONE, *by_lot[1:]),
    ]
    table = _table(f"New items, the first {k} of them", "model", rows, dict(enumerate(shades)))
    return [Text(_of_items(found, facts, k)), Figure(f"New items: recall@{k}", svg, how), table]


def _of_items(found: dict[str, Any], facts: RunFacts, k: int) -> str:
    text = f"New items: {number(found['items'])} were hidden whole, with all that was done with them. For {number(found['users'])} users who had chosen some, "
    text += f"the models that know items by their content ranked these items alone; {k} drawn by lot would find {formatting.share(found[CHANCE]['recall'])}."
    if found["share_of_places"] is not None:
        text += f" In the blend's ordinary lists, beside all others, they take {formatting.share(found['share_of_places'])} of the first {k} places; "
        text += f"they are {formatting.share(found['items'] / found['catalogue'])} of the catalogue."
    weights = facts.fusion.get("weights")
    if weights and not any(weights.get(name) for name in found["models"]):
        text += " None of these models has a say in the blend, so its order of new items means nothing."
    return text


def _cells(metrics: dict[str, dict[str, float]]) -> tuple[str, ...]:
    """NDCG and its interval, then the other metrics."""
    mean, low, high = _span(metrics["ndcg"])
    interval = f"{formatting.metric(low)}–{formatting.metric(high)}"
    return (
        formatting.metric(mean),
        interval,
        *(formatting.metric(metrics[name]["mean"]) for name in _METRICS[1:]),
    )


def _table(title: str, first: str, rows: Sequence[Sequence[str]], marks: dict[int, str]) -> Table:
    names = [formatting.METRICS[name][0] for name in _METRICS]
    head = (first, names[0], "interval", *names[1:])
    hints = {column: formatting.METRICS[name][1] for column, name in zip((1, *range(3, len(head))), _METRICS)}
    return Table(title, head, rows, frozenset(range(1, len(head))), hints=hints, marks=marks, half=True)


def _span(estimate: dict[str, float]) -> tuple[float, float, float]:
    return estimate["mean"], estimate["low"], estimate["high"]
