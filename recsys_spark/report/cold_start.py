"""The report's section on cold start: users and items that were held out completely, and how they were served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recsys_spark.columns import COLD_START, FUSED, POPULARITY
from recsys_spark.report import plots
from recsys_spark.report.accuracy import metric_table
from recsys_spark.report.blocks import Block, Figure, Note, Text
from recsys_spark.report.formatting import gap, number, share, significant
from recsys_spark.report.run_facts import RunFacts

_METRICS = ("ndcg", "recall", "hit_rate")
_LISTS = {FUSED: "By segment", POPULARITY: "All users"}
_RANDOM = "Random order"
_NOT_CONFIGURED = (
    "No users or items were held out completely (split.cold_user_share, split.cold_item_share), "
    "so cold start was not measured."
)
_NO_USERS = "split.cold_user_share is set, but there were too few users to hold any out."
_NO_ITEMS = (
    "Items were held out, but no model of this run can rank items without interactions. "
    "Enable content, or the network with content features."
)


def cold_start(facts: RunFacts) -> list[Block]:
    result, shares = facts.metrics.get(COLD_START) or {}, facts.settings("split")
    blocks: list[Block] = []
    for kind, describe, missing in (("user", _users, _NO_USERS), ("item", _items, _NO_ITEMS)):
        if f"{kind}s" in result:
            blocks += describe(result[f"{kind}s"], facts)
        elif shares.get(f"cold_{kind}_share"):
            blocks.append(Note(missing))
    return blocks or [Note(_NOT_CONFIGURED)]


def _users(result: dict[str, Any], facts: RunFacts) -> list[Block]:
    k, lists = facts.metrics["gate_k"], result["lists"]
    segments = facts.settings("clean", None).get("clean", {}).get("segment_by")
    text = f"{number(result['users'])} users were held out completely and served like users without history"
    if segments:
        text += f", with the popular items of their segment ({', '.join(segments)}). "
        text += _compared(result["difference"]["ndcg"], k)
    else:
        text += ", with popular items. No segments are configured (clean.segment_by), so both lists are equal."
    colours, rows = [plots.ACCENT, facts.label(POPULARITY).colour], [lists[name] for name in _LISTS]
    svg = plots.intervals(list(_LISTS.values()), [row["ndcg"] for row in rows], colours, f"NDCG@{k}")
    caption = "Popular items of the user's segment, and popular items of all users. Further right is better. "
    table = metric_table(f"How good are the first {k} items?", "popularity", list(_LISTS.values()), rows, _METRICS)
    return [
        Text(text, title="New users"),
        Figure("Do segments help new users?", svg, f"{caption}The line is the interval."),
        replace(table, dots=colours, half=True),
    ]


def _compared(difference: dict[str, float], k: int) -> str:
    figures = f"(NDCG@{k} {gap(difference)})"
    if not significant(difference):
        return f"The difference to the popular items of all users is not significant {figures}."
    return f"This is {'better' if difference['mean'] > 0 else 'worse'} than the popular items of all users {figures}."


def _items(result: dict[str, Any], facts: RunFacts) -> list[Block]:
    k = facts.metrics["gate_k"]
    models = facts.in_order(result["models"])
    rows = [result["models"][model] for model in models]
    random = {name: {"mean": value} for name, value in result["random"].items()}
    labels, colours = [*facts.names(models), _RANDOM], [*facts.colours(models), plots.GREY]
    recall = result["random"]["recall"]
    estimates = [*(row["recall"] for row in rows), {"mean": recall, "low": recall, "high": recall}]
    svg = plots.intervals(labels, estimates, colours, f"recall@{k} among the new items")
    caption = "Each model ranked the new items alone. A line to the right of the random order means that the model "
    table = metric_table(f"How good are the first {k} new items?", "model", labels, [*rows, random], _METRICS)
    return [
        Text(_items_text(result, facts, k), title="New items"),
        Figure("Do new items reach the right users?", svg, f"{caption}can rank new items."),
        replace(table, dots=colours, half=True),
    ]


def _items_text(result: dict[str, Any], facts: RunFacts, k: int) -> str:
    text = f"{number(result['items'])} items were held out completely, with all their interactions. For "
    text += f"{number(result['users'])} users who have some of them, the models that use content ranked these items "
    text += f"alone. A random order would reach a recall@{k} of {share(result['random']['recall'])}."
    if result["share_of_places"] is not None:
        text += f" In the blend's lists of all items, they take {share(result['share_of_places'])} of the first {k} "
        text += f"places; they are {share(result['items'] / result['catalogue'])} of the catalogue."
    weights = facts.fusion.get("weights")
    if weights and not any(weights.get(name) for name in result["models"]):
        text += " None of these models has weight in the blend, so the blend's order of new items is meaningless."
    return text
