"""Render report.html, one self-contained page, from plain data.

The evaluate stage and `recsys report` call it. The modules beside this one write the sections; templates/report.html.j2
lays them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recsys_spark.columns import BACKTEST, FUSED, RELEASE
from recsys_spark.report import plots
from recsys_spark.report.accuracy import accuracy
from recsys_spark.report.blocks import Block, Figure, GateTable, Note, ReportSection, Text, Users
from recsys_spark.report.cold_start import cold_start
from recsys_spark.report.data import clean, split
from recsys_spark.report.formatting import GATES, metric, number, seconds, share, signed
from recsys_spark.report.fusion import score
from recsys_spark.report.models import baselines, features, train
from recsys_spark.report.run_facts import STAGES, RunFacts
from recsys_spark.storage import manifest

TEMPLATE = "report.html.j2"
RECOMMENDATIONS_SHOWN = 10


def write(
    path: Path,
    facts: RunFacts,
    *,
    verdict: dict[str, Any],
    examples: Sequence[dict[str, Any]],
    bad_rows: Sequence[dict[str, str]],
    run_date: date,
) -> None:
    """Render the page to `path`, which always holds a whole page."""
    manifest.write_text(path, render(facts, verdict=verdict, examples=examples, bad_rows=bad_rows, run_date=run_date))


def render(
    facts: RunFacts,
    *,
    verdict: dict[str, Any],
    examples: Sequence[dict[str, Any]],
    bad_rows: Sequence[dict[str, str]],
    run_date: date,
) -> str:
    """Return the page. The template escapes all data; only the plots are inserted as they are."""
    environment = Environment(
        loader=PackageLoader("recsys_spark.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources = facts.in_order({row["source"] for user in examples for row in user["recommendations"]})
    return environment.get_template(TEMPLATE).render(
        run_id=facts.layout.run_id,
        run_date=run_date,
        passed=verdict["passed"],
        verdict=_sentence(verdict),
        tiles=tiles(facts),
        sections=sections(facts, verdict, examples, bad_rows),
        legend=[facts.label(name) for name in sources],
        label=facts.label,
        versions=next((m.versions for m in facts.manifests), {}),
    )


def sections(
    facts: RunFacts,
    verdict: dict[str, Any],
    examples: Sequence[dict[str, Any]],
    bad_rows: Sequence[dict[str, str]],
) -> list[ReportSection]:
    """Return all sections in the order of the night. Each one copes with a run that lacks some of its data."""
    return [
        ReportSection("clean", "Which data came in?", clean(facts, bad_rows)),
        ReportSection("split", "Which interactions are hidden to test the models?", split(facts)),
        ReportSection("baselines", "Which baseline models were fitted?", baselines(facts)),
        ReportSection("features", "What does the network learn from?", features(facts)),
        ReportSection("train", "How did the training of the network go?", train(facts)),
        ReportSection("score", "How are the models combined?", score(facts)),
        ReportSection("evaluate", "How good are the recommendations?", accuracy(facts)),
        ReportSection("cold_start", "How well are new users and new items served?", cold_start(facts)),
        ReportSection("publish", "May the new table be published?", gates(verdict)),
        ReportSection("users", "What do users get?", users(examples)),
        ReportSection("timings", "Where did the time go?", timings(facts)),
    ]


def tiles(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Return the key figures at the top: label, value and a note for each."""
    counts, score = facts.counts("clean", None), facts.counts("score", RELEASE)
    return [
        ("users served", number(score.get("users")), f"{number(score.get('rows'))} rows in the new table"),
        ("interactions", number(counts.get("interactions")), f"from {number(counts.get('rows_in'))} rows read"),
        ("items", number(counts.get("items")), "in the catalogue"),
        *(_quality(facts) if facts.metrics.get("users") else []),
    ]


def _quality(facts: RunFacts) -> list[tuple[str, str, str]]:
    metrics = facts.metrics
    k, baseline = str(metrics["gate_k"]), metrics["best_baseline"]
    blend, best = (metrics["accuracy"][model][k] for model in (FUSED, baseline))
    ndcg, base = blend["ndcg"]["mean"], best["ndcg"]["mean"]
    gain = f", {signed(ndcg / base - 1, '.1%')} against {facts.label(baseline).label}" if base else ""
    coverage = metrics["beyond_accuracy"][FUSED]["coverage"]
    return [
        (f"NDCG@{k}", metric(ndcg), f"blend{gain}"),
        ("users with a hit", share(blend["hit_rate"]["mean"]), f"a hidden item among the first {k}"),
        ("catalogue shown", share(coverage), "items in at least one list"),
    ]


def _sentence(verdict: dict[str, Any]) -> str:
    results = verdict["gates"]
    failed = [GATES.get(gate["gate"], gate["gate"]) for gate in results if not gate["passed"]]
    if failed:
        return f"Not to be published: {len(failed)} of {len(results)} gates failed ({'; '.join(failed)})."
    if not results:
        return "No gates are configured: the table may be published."
    return f"{'The gate' if len(results) == 1 else f'All {len(results)} gates'} passed: the table may be published."


def gates(verdict: dict[str, Any]) -> list[Block]:
    results = [{**gate, "title": GATES.get(gate["gate"], gate["gate"])} for gate in verdict["gates"]]
    if not results:
        return [Note("No gates are configured, so the table is published whatever the metrics.")]
    return [Text("If one of these gates fails, the last published table stays in place."), GateTable(results)]


def users(examples: Sequence[dict[str, Any]]) -> list[Block]:
    if not examples:
        return [Note("There are no example users.")]
    text = "These users are chosen by hash, so they are the same in every run. A card has the newest items of the "
    text += f"history and the first {RECOMMENDATIONS_SHOWN} recommended items. The dot is the model with the largest "
    text += "share in the item's score. Below an item stands the history item that explains it best. "
    text += "Popular items have no explanation."
    return [Text(text), Users(examples, RECOMMENDATIONS_SHOWN)]


def timings(facts: RunFacts) -> list[Block]:
    # this stage and publish finish after the page is written; their manifests are from an earlier attempt
    # and version 0.1.0 counted clean to the backtest
    done = [m for m in facts.manifests if m.stage != "publish"]
    spent = {(m.stage, None if m.stage == "clean" else m.pass_name): m.seconds for m in done}
    spent.pop(("evaluate", RELEASE), None)
    stages = [stage for stage in STAGES if any(name == stage for name, _ in spent)]
    passes = {"before both passes": None, "backtest": BACKTEST, "release": RELEASE}
    series = {name: [spent.get((stage, of), 0.0) for stage in stages] for name, of in passes.items()}
    text = f"All stages before this report took {seconds(sum(spent.values()))}."
    caption = "One bar for each stage: the backtest first, then the release, which makes the new table."
    return [Text(text), Figure("How long did each stage take?", plots.timings(stages, series), caption)]
