"""The report's section on quality: the models side by side, in words, plots and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_spark.columns import DIVERSITY, DIVERSITY_TRADEOFF, FUSED, MAX_PER_CATEGORY
from recsys_spark.report import plots
from recsys_spark.report.blocks import Block, Bullets, Figure, Note, Table, Text
from recsys_spark.report.formatting import (
    BEYOND_ACCURACY,
    METRICS,
    NONE,
    Estimate,
    bounds,
    metric,
    signed,
    signed_bounds,
    significant,
)
from recsys_spark.report.groups import groups
from recsys_spark.report.run_facts import RunFacts


def accuracy(facts: RunFacts) -> list[Block]:
    metrics = facts.metrics
    if not metrics.get("users"):
        return [Note("No user has held-out items, so this run has no metrics.")]
    k, bootstrap = metrics["gate_k"], metrics["bootstrap"]
    text = f"Each model made a list for {metrics['users']:,} users. A hit is a hidden test item among the first {k}. "
    text += f"Intervals are {bootstrap['confidence']:.0%} bootstrap intervals from {bootstrap['samples']:,} resamples "
    text += "of the users."
    first = sorted(metrics["differences"], key=lambda entry: entry["model"] != FUSED)
    return [
        Text(text),
        Bullets([difference(facts, entry) for entry in first]),
        _intervals(facts, k),
        _coverage(facts, k),
        _at(facts, k),
        _cutoffs(facts),
        _concentration(facts),
        _beyond_accuracy(facts, k),
        *_diversity_tradeoff(facts, k),
        *groups(facts),
    ]


def difference(facts: RunFacts, entry: dict[str, Any]) -> str:
    """Return one comparison of `metrics.json` as a sentence."""
    metrics, estimate = facts.metrics, entry["metrics"]["ndcg"]
    (left, right), samples = facts.names([entry["model"], entry["against"]]), metrics["bootstrap"]["samples"]
    if estimate["mean"] is None:
        return f"{left} and {right} could not be compared: no user has held-out items."
    base = metrics["accuracy"][entry["against"]][str(entry["k"])]["ndcg"]["mean"]
    relative = f", {signed(estimate['mean'] / base, '.1%')}" if base else ""
    figures = f"NDCG@{entry['k']} {signed(estimate['mean'])}{relative}, interval {signed_bounds(estimate)}"
    role = _role(metrics, entry)
    if not significant(estimate):
        return f"The difference between {left} and {right}, {role}, is not significant ({figures})."
    ahead = round(estimate["share_above"] * samples)
    verb, times = ("better", ahead) if estimate["mean"] > 0 else ("worse", samples - ahead)
    return f"{left} is {verb} than {right}, {role}, in {times:,} of {samples:,} resamples ({figures})."


def _role(metrics: dict[str, Any], entry: dict[str, Any]) -> str:
    """Return why a model is compared with this other model."""
    baseline, single = (entry["against"] == metrics[key] for key in ("best_baseline", "best_single"))
    if entry["model"] != FUSED or not single:
        return "the best baseline"
    return "the best single model and baseline" if baseline else "the best single model"


def _intervals(facts: RunFacts, k: int) -> Figure:
    models = facts.metrics["models"]
    estimates = [facts.metrics["accuracy"][m][str(k)]["ndcg"] for m in models]
    svg = plots.intervals(facts.names(models), estimates, facts.colours(models), f"NDCG@{k}")
    caption = "Further right is better. The line is the interval. Models whose lines do not overlap differ clearly."
    return Figure("How accurate is each model?", svg, caption)


def _coverage(facts: RunFacts, k: int) -> Figure:
    models = facts.metrics["models"]
    values = [facts.metrics["beyond_accuracy"][m]["coverage"] or 0.0 for m in models]
    svg = plots.bars(facts.names(models), values, [f"{v:.1%}" for v in values], facts.colours(models))
    caption = f"Share of all items among the first {k} of at least one list. A short bar: all users see the same items."
    return Figure("How much of the catalogue do the lists show?", svg, caption)


def _concentration(facts: RunFacts) -> Figure:
    curves = facts.metrics["concentration"]
    models = {facts.label(m).label: (facts.label(m).colour, curves[m]) for m in facts.metrics["models"]}
    caption = "Share of the listed items (dashed: of the interactions) that is among the most popular items. "
    caption += "A curve above the dashed line favours popular items more than users do."
    return Figure("Do the lists favour popular items?", plots.concentration(curves["log"], models), caption)


def _at(facts: RunFacts, k: int) -> Table:
    models = facts.metrics["models"]
    estimates = [facts.metrics["accuracy"][m][str(k)] for m in models]
    table = metric_table(f"Which model is best at k = {k}?", "model", facts.names(models), estimates)
    best = {
        (max(range(len(models)), key=lambda row: estimates[row][name]["mean"]), column)
        for name, column in zip(METRICS, metric_columns(list(METRICS)))
    }
    return Table(
        table.title, table.head, table.rows, table.numeric, frozenset(best), table.hints, dots=facts.colours(models)
    )


def metric_columns(names: Sequence[str]) -> list[int]:
    """Return the position of each metric in a `metric_table`; the interval comes after the first metric."""
    return [1, *range(3, len(names) + 2)]


def metric_table(
    title: str, first: str, labels: Sequence[str], rows: Sequence[dict[str, Estimate]], names: Sequence[str] = ()
) -> Table:
    """Return a table of metrics, one row for each label, with the interval of the first metric.

    `rows` map the metrics to estimates; a missing metric or interval is a dash. `names` are the metrics (all).
    """
    shown = list(names or METRICS)
    means = [[metric(row[name]["mean"]) if name in row else NONE for name in shown] for row in rows]
    cells = [(label, m[0], bounds(row[shown[0]]), *m[1:]) for label, m, row in zip(labels, means, rows)]
    heads = [METRICS[name][0] for name in shown]
    hints = {column: METRICS[name][1] for column, name in zip(metric_columns(shown), shown)}
    head = (first, heads[0], "interval", *heads[1:])
    return Table(title, head, cells, frozenset(range(1, len(head))), hints=hints)


def _cutoffs(facts: RunFacts) -> Table:
    metrics = facts.metrics
    pairs = [(k, model) for k in metrics["cutoffs"] for model in metrics["models"]]
    rows = [
        (str(k), facts.label(m).label, *(metric(metrics["accuracy"][m][str(k)][name]["mean"]) for name in METRICS))
        for k, m in pairs
    ]
    head = ("k", "model", *(name for name, _ in METRICS.values()))
    hints = {column: hint for column, (_, hint) in enumerate(METRICS.values(), start=2)}
    numeric, dots = frozenset({0, *range(2, len(head))}), facts.colours(model for _, model in pairs)
    title = "All metrics at all cutoffs"
    return Table(title, head, rows, numeric, hints=hints, folded=True, dots=dots, dot_column=1)


def _beyond_accuracy(facts: RunFacts, k: int) -> Table:
    models, values = facts.metrics["models"], facts.metrics["beyond_accuracy"]
    # without categories no model has a diversity
    names = [name for name in BEYOND_ACCURACY if any(values[m][name] is not None for m in models)]
    rows = []
    for model in models:
        cells = [(BEYOND_ACCURACY[name][2], values[model][name]) for name in names]
        rows.append((facts.label(model).label, *(NONE if v is None else form.format(v) for form, v in cells)))
    head = ("model", *(BEYOND_ACCURACY[name][0] for name in names))
    hints = {column: BEYOND_ACCURACY[name][1] for column, name in enumerate(names, start=1)}
    title, numeric = f"How varied are the first {k} items?", frozenset(range(1, len(head)))
    return Table(title, head, rows, numeric, hints=hints, dots=facts.colours(models), half=True)


def _diversity_tradeoff(facts: RunFacts, k: int) -> list[Block]:
    """Return accuracy against diversity and coverage, for each of the two settings that is on."""
    score = facts.settings("score").get("score", {})
    configured = {DIVERSITY: score.get(DIVERSITY) or 0.0, MAX_PER_CATEGORY: score.get(MAX_PER_CATEGORY)}
    blocks: list[Block] = []
    for setting, other in ((DIVERSITY, MAX_PER_CATEGORY), (MAX_PER_CATEGORY, DIVERSITY)):
        entries = [e for e in facts.metrics.get(DIVERSITY_TRADEOFF, []) if e[other] == configured[other]]
        if configured[setting] and len(entries) > 1:
            blocks += _tradeoff(entries, setting, configured[setting], k)
    return blocks


def _tradeoff(entries: list[dict[str, Any]], setting: str, configured: float, k: int) -> list[Block]:
    labels = ["none" if entry[setting] is None else f"{entry[setting]:g}" for entry in entries]
    values = [entry[setting] for entry in entries]
    chosen = values.index(configured) if configured in values else None
    caption = f"One dot for each value of score.{setting}, on {max(e['users'] for e in entries):,} users. "
    axes = {
        "list_diversity": ("diversity within a list", "Further right, the items of a list differ more."),
        "coverage": ("share of the catalogue shown", "Further right, the lists show more of the catalogue."),
    }
    figures: list[Block] = []
    for name, (x, how) in axes.items():
        if any(entry[name] is None or entry["ndcg"] is None for entry in entries):
            continue
        svg = plots.tradeoff([(entry[name], entry["ndcg"]) for entry in entries], labels, chosen, x, f"NDCG@{k}")
        gain = "coverage" if name == "coverage" else "diversity"
        title = f"How does score.{setting} trade accuracy for {gain}?"
        how = f"{caption}{how} Further down, fewer hidden items are found. The large dot is the configured value."
        figures.append(Figure(title, svg, how))
    return figures
