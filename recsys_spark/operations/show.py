"""`recsys show`: prints where a run's table and report are, its accuracy, and the lists of a few users.

Reads only the JSON files that the run left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recsys_spark import registry
from recsys_spark.columns import RELEASE
from recsys_spark.operations.runs import finished_run
from recsys_spark.report import formatting
from recsys_spark.report.run_facts import EXAMPLES_FILE, RunFacts
from recsys_spark.storage.layout import Layout

WIDTH = 100
USERS = 3
ITEMS = 8
_LEFT, _RIGHT, _SOURCE = 36, 44, 13
METRICS = ("ndcg", "recall", "mrr", "hit_rate")


def run(root: Path, run_id: str | None) -> int:
    """Print the text for the run `run_id`, or the run that published last; return the exit code."""
    print(text(finished_run(root, "publish", run_id)), end="")
    return 0


def text(layout: Layout) -> str:
    """Return the text, at most `WIDTH` columns wide except for paths."""
    facts = RunFacts(layout)
    users = json.loads(layout.table("evaluate", RELEASE, EXAMPLES_FILE).read_text(encoding="utf-8"))
    parts = [_paths(layout, facts), _accuracy(facts.metrics), *(_user(user) for user in _selected(users))]
    return "\n\n".join(parts) + "\n"


def _paths(layout: Layout, facts: RunFacts) -> str:
    score = facts.counts("score", RELEASE)
    size = f"{formatting.number(score.get('rows'))} rows for {formatting.number(score.get('users'))} users"
    seconds = formatting.seconds(sum(m.seconds for m in facts.manifests))
    return (
        f"Run {layout.run_id}: {seconds} in {len(facts.manifests)} stages\n"
        f"  table   {layout.top_n}   ({size})\n"
        f"  report  {layout.report}"
    )


def _accuracy(metrics: dict[str, Any]) -> str:
    """Return one line per model; the best value of each column is marked."""
    if not metrics.get("users"):
        return "No user has held-out items, so no accuracy was measured."
    k = metrics["gate_k"]
    table = {m: [metrics["accuracy"][m][str(k)][name]["mean"] for name in METRICS] for m in metrics["models"]}
    best = [max(column) for column in zip(*table.values())]
    heads = "".join(f"{f'{formatting.METRICS[name][0]}@{k}':>14}" for name in METRICS) + f"{'coverage':>12}"
    lines = [
        f"Accuracy on the held-out items of {metrics['users']:,} users (* best):",
        f"  {'':<14}{heads}",
    ]
    for model, values in table.items():
        cells = "".join(f"{'*' if value == top else ''}{value:.4f}".rjust(14) for value, top in zip(values, best))
        coverage = formatting.share(metrics["beyond_accuracy"][model]["coverage"])
        lines.append(f"  {_label(model):<14}{cells}{coverage:>12}")
    return "\n".join(lines)


def _selected(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first users. The last one has no history if there is such a user."""
    without = [user for user in users if not user["history"]][:1]
    return [*[user for user in users if user["history"]][: USERS - len(without)], *without]


def _user(user: dict[str, Any]) -> str:
    """Return the user's latest items beside the recommendations."""
    n = user["history_length"]
    head = f"User {_printable(user['user_id'])}, {f'{n:,} item' + 's' * (n != 1) if n else 'no history'}"
    history = [_printable(item["title"]) for item in user["history"][:ITEMS]] or ["(empty)"]
    recommended = [f"{rank:>2} {_printable(r['title'])}" for rank, r in enumerate(user["recommendations"][:ITEMS], 1)]
    sources = [_label(item["source"]) for item in user["recommendations"][:ITEMS]]
    lines = [_cut(head, WIDTH), f"  {'History':<{_LEFT}}  {'Recommended':<{_RIGHT}}  Source"]
    for i in range(max(len(history), len(recommended))):
        left, right, source = (column[i] if i < len(column) else "" for column in (history, recommended, sources))
        row = f"  {_cut(left, _LEFT):<{_LEFT}}  {_cut(right, _RIGHT):<{_RIGHT}}  {_cut(source, _SOURCE)}"
        lines.append(row.rstrip())
    return "\n".join(lines)


def _label(model: str) -> str:
    labels = registry.labels()
    return labels[model].label if model in labels else model


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _printable(text: str) -> str:
    """Replace control characters, which come from data and could move the terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)
