"""The report's sections on how the models came to be: baselines, features, train."""

from __future__ import annotations

from typing import Any

from recsys_spark.columns import ALS, FUSED, NETWORK, PER_USER
from recsys_spark.report import formatting, plots
from recsys_spark.report.blocks import Block, Figure, Note, Table, Text
from recsys_spark.report.formatting import number
from recsys_spark.report.run_facts import RunFacts


def baselines(facts: RunFacts) -> list[Block]:
    names = [m for m in facts.metrics.get("models", []) if m not in (NETWORK, FUSED)]
    counts = facts.counts("baselines")
    seconds, objective = counts.get("seconds") or {}, counts.get("als_objective") or []
    cells = [(formatting.model(m), formatting.about(m), formatting.tenths(seconds.get(m))) for m in names]
    head, marks = ("model", "what it does", "seconds"), plots.marks(names)
    curve = [_objective(objective)] if len(objective) > 1 else []
    return [
        Table("", head, cells, frozenset({2}), marks=marks, wide=frozenset({1}), half=bool(curve)),
        *curve,
        *_content(counts),
    ]


def _content(counts: dict[str, Any]) -> list[Block]:
    if "content_items" not in counts:
        return []
    names = ("content_items", "content_terms", "content_terms_rare", "content_terms_common")
    items, kept, rare, common = (number(counts[name]) for name in names)
    text = f"Content compares {items} items by {kept} words and categories; {rare} more are in one item only"
    return [Text(f"{text}, and {common} in so many that they tell little.")]


def _objective(values: list[float]) -> Figure:
    svg = plots.curve(range(1, len(values) + 1), values, plots.colour(ALS), x_name="alternation")
    how = "It should fall and then stay: if it still falls at the end, more iterations would help."
    return Figure("What ALS minimises", svg, how)


def features(facts: RunFacts) -> list[Block]:
    counts, per_user = facts.counts("features"), facts.settings("features").get("examples") == PER_USER
    if not counts.get("examples"):
        return [Note("No training examples could be cut from the histories.")]
    each = "the whole history of a user" if per_user else "an item and the history before it"
    text = f"{number(counts['examples'])} training examples, each {each}"
    text += f", of {number(counts.get('users_with_history'))} users. The items bring "
    content = counts.get("features")
    known = (
        f"{number(content)} content features, such as categories."
        if content
        else "no content: their users alone tell what they are."
    )
    return [Text(text + known)]


def train(facts: RunFacts) -> list[Block]:
    epochs, best = facts.training.get("epochs") or [], facts.training.get("best_epoch")
    if not epochs:
        why = (
            "train.enabled is false" if facts.settings("train").get("enabled") is False else "it left no training.json"
        )
        return [Note(f"No network was trained in this run ({why}), so the blend is of the simple models only.")]
    at = [epoch["epoch"] for epoch in epochs]
    loss = plots.curve(at, [e["loss"] for e in epochs], plots.SECOND, x_name="epoch")
    ndcg = plots.curve(at, [e["ndcg"] for e in epochs], plots.ACCENT, best, x_name="epoch")
    k = facts.settings("train").get("metric_k")
    title = f"NDCG@{k} on the validation items" if k else "NDCG on the validation items"
    how = "It should rise; training stops when it no longer does. The large dot is the epoch that was kept."
    falls = Figure("Training loss", loss, "It should fall, steeply at first.")
    warm = facts.settings("train").get("warm_epochs")
    return [Text(_training(facts.training, epochs, best, warm)), falls, Figure(title, ndcg, how)]


def _training(training: dict[str, Any], epochs: list[dict[str, Any]], best: int | None, warm: int | None) -> str:
    workers, device = training.get("workers", 1), str(training.get("device", "cpu")).upper()
    speed = [e["examples_per_s"] for e in epochs if e.get("examples_per_s")]
    text = f"{len(epochs)} epochs with {workers} worker{'s' if workers != 1 else ''} on {device}"
    text += f", {formatting.seconds(sum(e.get('seconds', 0) for e in epochs))} in all"
    text += f", {plots.short(sum(speed) / len(speed))} examples a second" if speed else ""
    tonight = f"goes on from there for {warm} more" if warm else "is trained for as many"
    kept = f"; epoch {best} was best on the validation items, and tonight's network {tonight}"
    return text + (kept if best else "") + "."
