"""report.html: one page that needs nothing but itself. What it says is in sections.py, how it looks in templates/report.html.j2."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recsys_spark.columns import FUSED, RELEASE
from recsys_spark.report import formatting, plots
from recsys_spark.report.run_facts import RunFacts
from recsys_spark.report.sections import sections

TEMPLATE = "report.html.j2"


def write(
    path: Path,
    facts: RunFacts,
    *,
    verdict: dict[str, Any],
    examples: list[dict[str, Any]],
    bad_rows: list[dict[str, Any]],
    run_date: date,
) -> None:
    """Render the page to `path`, all of it or nothing."""
    page = render(facts, verdict=verdict, examples=examples, bad_rows=bad_rows, run_date=run_date)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)


def render(
    facts: RunFacts,
    *,
    verdict: dict[str, Any],
    examples: list[dict[str, Any]],
    bad_rows: list[dict[str, Any]],
    run_date: date,
) -> str:
    """The page as text. Everything that comes from data is escaped by the template; only the plots are put in as they are."""
    loader = PackageLoader("recsys_spark.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sources = {row["source"] for user in examples for row in user["recommendations"]}
    return environment.get_template(TEMPLATE).render(
        run_id=facts.layout.run_id,
        run_date=run_date,
        passed=verdict["passed"],
        verdict=_sentence(verdict),
        tiles=tiles(facts),
        sections=sections(facts, verdict, examples, bad_rows),
        legend=[(formatting.model(name), plots.colour(name)) for name in formatting.MODELS if name in sources],
        model=formatting.model,
        colour=plots.colour,
        versions=next((m.versions for m in facts.manifests), {}),
    )


def tiles(facts: RunFacts) -> list[tuple[str, str, str]]:
    """The key figures of the head: label, value and a note each."""
    clean, score = facts.counts("clean"), facts.counts("score", RELEASE)
    number = formatting.number
    return [
        ("users served", number(score.get("users")), f"{number(score.get('rows'))} rows in tonight's table"),
        (
            "interactions",
            number(clean.get("interactions")),
            f"of {number(clean.get('rows_in'))} rows that came in",
        ),
        ("items", number(clean.get("items")), "in the catalogue"),
        *(_quality(facts.metrics) if facts.metrics.get("users") else []),
    ]


def _quality(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    k, baseline = str(metrics["gate_k"]), metrics["best_baseline"]
    own, best = (metrics["accuracy"][model][k] for model in (FUSED, baseline))
    ndcg, base = own["ndcg"]["mean"], best["ndcg"]["mean"]
    gain = f", {formatting.signed(ndcg / base - 1, '.1%')} on {formatting.model(baseline)}" if base else ""
    shown = metrics["beyond_accuracy"][FUSED]["coverage"]
    return [
        (f"NDCG@{k}", formatting.metric(ndcg), f"the blend{gain}"),
        ("users with a hit", formatting.share(own["hit_rate"]["mean"]), f"a hidden item among the first {k}"),
        ("catalogue shown", formatting.share(shown), "by at least one list"),
    ]


def _sentence(verdict: dict[str, Any]) -> str:
    gates = verdict["gates"]
    failed = [formatting.GATES.get(gate["gate"], gate["gate"]) for gate in gates if not gate["passed"]]
    if failed:
        return f"Not to be published. {len(failed)} of {len(gates)} gates failed: {'; '.join(failed)}."
    if not gates:
        return "No gates are set: the table may go live."
    return f"{'The gate' if len(gates) == 1 else f'All {len(gates)} gates'} passed: the table may go live."
