"""The demo's closing words: where the table and the report are, how good the models were, and what a few users get.

    python -m recsys_spark.operations.show <root>

`<root>` is `paths.root`; the run that finished last is shown. Reads only what the run left in JSON, so it needs no Spark.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from recsys_spark.columns import RELEASE
from recsys_spark.errors import InputMissing, RecsysError
from recsys_spark.report import formatting
from recsys_spark.report.run_facts import EXAMPLES_FILE, RunFacts
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout

WIDTH = 100
USERS = 3
ITEMS = 8
_LEFT, _RIGHT, _FROM = 36, 44, 13
_SHOWN = ("ndcg", "recall", "mrr", "hit_rate")


def newest(root: Path) -> Layout:
    """The run under `root` that published last; `InputMissing` when none has."""
    runs = [Layout(root, folder.name) for folder in sorted((root / "runs").glob("*")) if folder.is_dir()]
    done = [(m.finished_at, run.run_id, run) for run in runs if (m := manifest.read(run.stage("publish", RELEASE)))]
    if not done:
        raise InputMissing(
            f"no finished run under {root / 'runs'}; run `make demo`, or jobs/nightly.py with this paths.root"
        )
    return max(done, key=lambda entry: entry[:2])[2]


def show(layout: Layout) -> str:
    """The text, at most `WIDTH` columns wide."""
    facts = RunFacts(layout)
    users = json.loads(layout.table("evaluate", RELEASE, EXAMPLES_FILE).read_text(encoding="utf-8"))
    parts = [_places(layout, facts), _models(facts.metrics), *(_user(user) for user in _chosen(users))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _places(layout: Layout, facts: RunFacts) -> str:
    score = facts.counts("score", RELEASE)
    size = f"{formatting.number(score.get('rows'))} rows for {formatting.number(score.get('users'))} users"
    lines = [
        f"Run {layout.run_id}: {formatting.seconds(sum(m.seconds for m in facts.manifests))} in {len(facts.manifests)} stages"
    ]
    return "\n".join([*lines, f"  table   {layout.top_n}   ({size})", f"  report  {layout.report}"])


def _models(metrics: dict[str, Any]) -> str:
    """One line a model, the best of each column marked."""
    if not metrics.get("users"):
        return "No user has held-out items, so nothing was measured."
    k = metrics["gate_k"]
    table = {m: [metrics["accuracy"][m][str(k)][name]["mean"] for name in _SHOWN] for m in metrics["models"]}
    best = [max(column) for column in zip(*table.values())]
    heads = "".join(f"{f'{formatting.METRICS[name][0]}@{k}':>14}" for name in _SHOWN) + f"{'coverage':>12}"
    lines = [
        f"Found again, of what was hidden from {metrics['users']:,} users (* best):",
        f"  {'':<14}{heads}",
    ]
    for model, values in table.items():
        cells = "".join(f"{'*' if value == top else ''}{value:.4f}".rjust(14) for value, top in zip(values, best))
        coverage = formatting.share(metrics["beyond_accuracy"][model]["coverage"])
        lines.append(f"  {formatting.model(model):<14}{cells}{coverage:>12}")
    return "\n".join(lines)


def _chosen(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first users, the last of them one without history when there is any."""
    without = [user for user in users if not user["history"]][:1]
    return [*[user for user in users if user["history"]][: USERS - len(without)], *without]


def _user(user: dict[str, Any]) -> str:
    """What the user lately had, beside what they get."""
    n = user["history_length"]
    head = f"User {_clean(user['user_id'])}, {f'{n:,} item' + 's' * (n != 1) if n else 'no history'}"
    had = [_clean(item["title"]) for item in user["history"][:ITEMS]] or ["nothing yet"]
    gets = [f"{rank:>2} {_clean(item['title'])}" for rank, item in enumerate(user["recommendations"][:ITEMS], 1)]
    sources = [formatting.model(item["source"]) for item in user["recommendations"][:ITEMS]]
    lines = [_cut(head, WIDTH), f"  {'lately had':<{_LEFT}}  {'gets tonight':<{_RIGHT}}  from"]
    for i in range(max(len(had), len(gets))):
        left, right, source = (column[i] if i < len(column) else "" for column in (had, gets, sources))
        lines.append(f"  {_cut(left, _LEFT):<{_LEFT}}  {_cut(right, _RIGHT):<{_RIGHT}}  {_cut(source, _FROM)}".rstrip())
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _clean(text: str) -> str:
    """`text` without what would move a terminal's cursor: it comes from data."""
    return "".join(character if character.isprintable() else " " for character in text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Show where the newest run's table and report are, and some of its recommendations."
    )
    parser.add_argument("root", type=Path, help="paths.root of the run")
    try:
        print(show(newest(parser.parse_args(argv).root)), end="")
    except RecsysError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
