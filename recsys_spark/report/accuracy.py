"""The report's section on the models side by side: plots, tables and the comparisons in words."""

from __future__ import annotations

from typing import Any

from recsys_spark.columns import CAP, FUSED, LAMBDA, PRICE
from recsys_spark.report import formatting, plots
from recsys_spark.report.blocks import Block, Bullets, Figure, Note, Table, Text
from recsys_spark.report.groups import groups
from recsys_spark.report.run_facts import RunFacts

SHOWN = tuple(formatting.METRICS)
_TWO_DIGITS = "{:.2f}".format
_BEYOND_FORMS = {"coverage": "{:.1%}".format, "average_popularity": "{:,.0f}".format}


def accuracy(facts: RunFacts) -> list[Block]:
    found = facts.metrics
    if not found.get("users"):
        return [Note("No user has held-out items in this run, so nothing could be measured.")]
    k, users = found["gate_k"], found["users"]
    text = f"Each model gave {users:,} users a list, and the items hidden from it were looked for among the first {k}. "
    text += f"Intervals hold {found['bootstrap']['confidence']:.0%} of {found['bootstrap']['samples']:,} resamples of the users."
    blocks: list[Block] = [
        Text(text),
        Bullets(_comparisons(found)),
        _intervals(found),
        _coverage(found),
        _at(found, k),
        _cutoffs(found),
    ]
    return [*blocks, _concentration(found), _beyond(found), *_price(found, facts), *groups(found)]


def _comparisons(found: dict[str, Any]) -> list[str]:
    samples, k = found["bootstrap"]["samples"], str(found["gate_k"])
    first = sorted(found["differences"], key=lambda entry: entry["model"] != FUSED)
    bases = [found["accuracy"][entry["against"]][k]["ndcg"]["mean"] for entry in first]
    return [formatting.difference(e, _role(found, e), samples, base) for e, base in zip(first, bases)]


def _role(found: dict[str, Any], entry: dict[str, Any]) -> str:
    """What the other model of a comparison is."""
    baseline, single = (entry["against"] == found[key] for key in ("best_baseline", "best_single"))
    if entry["model"] != FUSED or not single:
        return "the best baseline"
    return "the best single model, a baseline" if baseline else "the best single model"


def _intervals(found: dict[str, Any]) -> Figure:
    k, models = found["gate_k"], found["models"]
    spans = [_span(found["accuracy"][m][str(k)]["ndcg"]) for m in models]
    svg = plots.intervals(_names(models), spans, [plots.colour(m) for m in models], f"NDCG@{k}")
    how = "Further right is better. The line is the interval: where two lines do not overlap, the difference is hardly chance."
    return Figure(f"Accuracy: NDCG@{k}", svg, how)


def _coverage(found: dict[str, Any]) -> Figure:
    models, k = found["models"], found["gate_k"]
    values = [found["beyond_accuracy"][m]["coverage"] or 0.0 for m in models]
    svg = plots.bars(_names(models), values, [f"{v:.1%}" for v in values], [plots.colour(m) for m in models])
    how = f"Share of all items that at least one list of {k} shows; a short bar means that everybody sees the same few."
    return Figure("Coverage of the catalogue", svg, how)


def _concentration(found: dict[str, Any]) -> Figure:
    curves = {key: found["concentration"][key] for key in ("log", *found["models"])}
    names = {"log": "what users chose", **{m: formatting.model(m) for m in found["models"]}}
    how = "How much goes to the most popular items. A curve above the dashed one shows them more often than users choose them."
    return Figure("Popularity: log against lists", plots.concentration(curves, names), how)


def _at(found: dict[str, Any], k: int) -> Table:
    models = found["models"]
    means = [_means(found, model, k) for model in models]
    spans = [_span(found["accuracy"][model][str(k)]["ndcg"]) for model in models]
    intervals = [f"{formatting.metric(low)}–{formatting.metric(high)}" for _, low, high in spans]
    cells = [[formatting.metric(value) for value in row] for row in means]
    rows = [(formatting.model(m), row[0], span, *row[1:]) for m, row, span in zip(models, cells, intervals)]
    # the interval stands behind the first metric, so the others move by one
    columns = [1, *range(3, len(SHOWN) + 2)]
    best = frozenset((max(range(len(means)), key=lambda r: means[r][i]), column) for i, column in enumerate(columns))
    hints = {column: formatting.METRICS[name][1] for column, name in zip(columns, SHOWN)}
    names = [formatting.METRICS[name][0] for name in SHOWN]
    head = ("model", names[0], "interval", *names[1:])
    numeric = frozenset(range(1, len(head)))
    return Table(f"All metrics at {k}", head, rows, numeric, best, hints, marks=plots.marks(models))


def _cutoffs(found: dict[str, Any]) -> Table:
    pairs = [(k, model) for k in found["cutoffs"] for model in found["models"]]
    rows = [(str(k), formatting.model(m), *map(formatting.metric, _means(found, m, k))) for k, m in pairs]
    head = ("k", "model", *(formatting.METRICS[name][0] for name in SHOWN))
    hints = {column: formatting.METRICS[name][1] for column, name in enumerate(SHOWN, start=2)}
    numeric, marks = frozenset({0, *range(2, len(head))}), plots.marks([model for _, model in pairs])
    title = "Every metric at every cutoff"
    return Table(title, head, rows, numeric, hints=hints, folded=True, marks=marks, mark_column=1)


def _beyond(found: dict[str, Any]) -> Table:
    models, values = found["models"], found["beyond_accuracy"]
    # without categories nobody has a diversity
    names = [name for name in formatting.BEYOND if any(values[m][name] is not None for m in models)]
    rows = [(formatting.model(m), *(_beyond_cell(name, values[m][name]) for name in names)) for m in models]
    head = ("model", *(formatting.BEYOND[name][0] for name in names))
    hints = {column: formatting.BEYOND[name][1] for column, name in enumerate(names, start=1)}
    title, numeric = f"Beyond accuracy, lists of {found['gate_k']}", frozenset(range(1, len(head)))
    return Table(title, head, rows, numeric, hints=hints, marks=plots.marks(models), half=True)


def _price(found: dict[str, Any], facts: RunFacts) -> list[Block]:
    """What diversity and caps cost, where they were asked for: against what differs within a list, where categories tell, and against what all lists
    show."""
    score = facts.settings("score").get("score", {})
    entries = found.get(PRICE) or []
    by_lambda, by_cap = ([e for e in entries if name in e] for name in (LAMBDA, CAP))
    return [
        *_curves(
            by_lambda,
            [f"λ {entry[LAMBDA]:g}" for entry in by_lambda],
            [entry[LAMBDA] == round(1 - score.get("diversity", 0.0), 4) for entry in by_lambda],
            ("The price of diversity", "The price of coverage"),
            "λ weighs relevance against likeness",
            found["gate_k"],
        ),
        *_curves(
            by_cap,
            [f"at most {entry[CAP]}" if entry[CAP] else "any number" for entry in by_cap],
            [entry[CAP] == score.get("max_per_category") for entry in by_cap],
            ("The price of a cap, by diversity", "The price of a cap, by coverage"),
            "A cap is the most items of one category in a list, which may end early for it",
            found["gate_k"],
        ),
    ]


def _curves(
    entries: list[dict[str, Any]],
    labels: list[str],
    asked: list[bool],
    titles: tuple[str, str],
    what: str,
    k: int,
) -> list[Block]:
    """NDCG against diversity and against coverage, so far as they are known."""
    if not entries:
        return []
    users = f"On {max(entry['users'] for entry in entries):,} users"
    told = {
        "diversity": ("diversity within a list", f"{users}: to the right the items of a list differ more, and"),
        "coverage": ("share of the catalogue shown", f"{users}: to the right more of the catalogue is shown, and"),
    }  # fmt: skip
    chosen = asked.index(True) if any(asked) else None
    figures: list[Block] = []
    for title, (name, (x, gain)) in zip(titles, told.items()):
        if any(entry[name] is None or entry["ndcg"] is None for entry in entries):
            continue
        points = [(entry[name], entry["ndcg"]) for entry in entries]
        svg = plots.trade(points, labels, chosen, x, f"NDCG@{k}")
        how = f"{gain} further down fewer hidden items are found. {what}; the large dot is tonight's."
        figures.append(Figure(title, svg, how))
    return figures


def _beyond_cell(name: str, value: float | None) -> str:
    return formatting.NONE if value is None else _BEYOND_FORMS.get(name, _TWO_DIGITS)(value)


def _means(found: dict[str, Any], model: str, k: int) -> list[float]:
    return [found["accuracy"][model][str(k)][name]["mean"] for name in SHOWN]


def _span(estimate: dict[str, float]) -> tuple[float, float, float]:
    return estimate["mean"], estimate["low"], estimate["high"]


def _names(models: list[str]) -> list[str]:
    return [formatting.model(m) for m in models]
