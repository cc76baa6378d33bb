"""The report's sections on fitting the models: baselines, features, train."""

from __future__ import annotations

from typing import Any

from recsys_spark.columns import ALS, FUSED, NETWORK, PER_USER
from recsys_spark.report import plots
from recsys_spark.report.blocks import Block, Figure, Note, Table, Text
from recsys_spark.report.formatting import NONE, number, seconds, short, tenths
from recsys_spark.report.run_facts import RunFacts


def baselines(facts: RunFacts) -> list[Block]:
    models = [m for m in facts.metrics.get("models", []) if m not in (NETWORK, FUSED)]
    counts = facts.counts("baselines")
    spent, objective = counts.get("seconds") or {}, counts.get("als_objective") or []
    labels = [facts.label(m) for m in models]
    cells = [(label.label, label.sentence or NONE, tenths(spent.get(m))) for m, label in zip(models, labels)]
    curve = [_objective(facts, objective)] if len(objective) > 1 else []
    head, dots = ("model", "how it works", "seconds"), facts.colours(models)
    table = Table("", head, cells, frozenset({2}), dots=dots, wide=frozenset({1}), half=bool(curve))
    return [table, *curve, *_content(counts)]


def _content(counts: dict[str, Any]) -> list[Block]:
    if "content_items" not in counts:
        return []
    names = ("content_items", "content_terms", "content_terms_rare", "content_terms_common")
    items, kept, rare, common = (number(counts[name]) for name in names)
    text = f"Content compares {items} items by {kept} words and categories. It ignores {rare} that occur in one item "
    return [Text(f"{text}only and {common} that occur in too many items to be informative.")]


def _objective(facts: RunFacts, values: list[float]) -> Figure:
    svg = plots.curve(range(1, len(values) + 1), values, facts.label(ALS).colour, x_name="iteration")
    caption = "ALS objective after each iteration. It should level off. If it still falls at the end, raise "
    return Figure("Did ALS converge?", svg, f"{caption}baselines.als.iterations.")


def features(facts: RunFacts) -> list[Block]:
    counts = facts.counts("features")
    if not counts.get("examples"):
        return [Note("The histories gave no training examples.")]
    per_user = facts.settings("features").get("examples") == PER_USER
    text = f"{number(counts['examples'])} training examples from {number(counts.get('users_with_history'))} users. "
    text += f"Each example is {'the whole history of a user' if per_user else 'an item and the history before it'}. "
    content = counts.get("features")
    if content:
        return [Text(f"{text}The items have {number(content)} content features, such as categories.")]
    return [Text(f"{text}The items have no content features, so the network knows them by their users only.")]


def train(facts: RunFacts) -> list[Block]:
    epochs, best = facts.training.get("epochs") or [], facts.training.get("best_epoch")
    settings = facts.settings("train")
    if not epochs:
        why = "train.enabled is false" if settings.get("enabled") is False else "training.json is missing"
        return [Note(f"This run has no network ({why}), so the blend uses the baseline models only.")]
    at, k = [epoch["epoch"] for epoch in epochs], settings.get("metric_k")
    loss = plots.curve(at, [e["loss"] for e in epochs], plots.SECOND, x_name="epoch")
    ndcg = plots.curve(at, [e["ndcg"] for e in epochs], plots.ACCENT, best, x_name="epoch")
    title = f"Does {f'NDCG@{k}' if k else 'NDCG'} on the validation set rise?"
    caption = "Training stops when it no longer rises. The large dot marks the epoch that was kept."
    return [
        Text(_training(facts.training, epochs, best, settings.get("warm_epochs"))),
        Figure("Does the training loss fall?", loss, "Mean loss of each epoch. It should fall, steeply at first."),
        Figure(title, ndcg, caption),
    ]


def _training(training: dict[str, Any], epochs: list[dict[str, Any]], best: int | None, warm: int | None) -> str:
    workers, device = training.get("workers", 1), str(training.get("device", "cpu")).upper()
    speed = [e["examples_per_s"] for e in epochs if e.get("examples_per_s")]
    text = f"{len(epochs)} epochs with {workers} worker{'s' if workers != 1 else ''} on {device} took "
    text += seconds(sum(e.get("seconds", 0) for e in epochs))
    text += f", {short(sum(speed) / len(speed))} examples a second." if speed else "."
    if not best:
        return text
    release = f"continues from there for {warm} epochs" if warm else f"is trained for {best} epochs too"
    return f"{text} Epoch {best} was best on the validation set. The network of the new table {release}."
