"""The report's section on fusion: the weights, what each model adds and costs, dropped models, blend or ranker."""

from __future__ import annotations

from typing import Any

from recsys_spark.columns import BACKTEST, DROPPED, MODEL, NETWORK, RELEASE
from recsys_spark.report import plots
from recsys_spark.report.blocks import Block, Bullets, Figure, Note, Table, Text
from recsys_spark.report.formatting import NONE, gap, metric, number, signed, signed_bounds, tenths
from recsys_spark.report.run_facts import RunFacts

_METHODS = {
    "zscore": "Each model's scores are standardised for each user (z-scores) and added up with these weights.",
    "rrf": "The reciprocal ranks in the models' lists are added up with these weights.",
}


def score(facts: RunFacts) -> list[Block]:
    fusion, counts = facts.fusion, facts.counts("score", RELEASE)
    text = f"The new table has {number(counts.get('rows'))} rows for {number(counts.get('users'))} users."
    if counts.get("users_without_history"):
        text += f" {number(counts['users_without_history'])} of them have no history and get popular items."
    if not fusion.get("weights"):
        return [Text(text), Note("This run has no fusion.json, so the weights of the blend are unknown.")]
    blocks: list[Block] = [Text(f"{text} {_selection(fusion)}"), _weights(facts, fusion)]
    return [*blocks, *_added(facts, fusion), *_dropped(facts, fusion), _costs(facts, fusion)]


def _selection(fusion: dict[str, Any]) -> str:
    """Return how the ranker compared with the blend, and which one makes the lists."""
    selected, comparison = _selected(fusion), fusion.get("comparison")
    if not comparison:
        return f"The {selected} makes the lists. It was not compared with another method."
    difference = comparison["difference"]
    text = f"On users that it was not trained on, a learned ranker reaches NDCG@{fusion['k']} "
    text += f"{metric(comparison['ranker'])} and the blend {metric(comparison['blend'])} "
    text += f"(difference {gap(difference)}). "
    if selected == "blend":
        return f"{text}The ranker is used only if the whole interval is above 0, so the blend makes the lists."
    why = "The whole interval is above 0" if difference["low"] > 0 else "The configuration selects the ranker"
    return f"{text}{why}, so the ranker makes the lists."


def _weights(facts: RunFacts, fusion: dict[str, Any]) -> Figure:
    models = facts.in_order(fusion["weights"])
    values = [float(fusion["weights"][model]) for model in models]
    svg = plots.bars(facts.names(models), values, [f"{v:.2f}" for v in values], facts.colours(models))
    method = _METHODS.get(fusion.get("method", ""), "The lists are added up with these weights.")
    return Figure("How much weight has each model?", svg, f"{method} They were chosen on the validation set.")


def _added(facts: RunFacts, fusion: dict[str, Any]) -> list[Block]:
    added = fusion.get("leave_one_out") or {}
    if not added:
        return []
    models = facts.in_order(added)
    x = f"NDCG@{fusion['k']} added"
    estimates = [added[model] for model in models]
    svg = plots.intervals(facts.names(models), estimates, facts.colours(models), x, differences=True)
    caption = f"Accuracy that the {_selected(fusion)} loses without the model, on users that it was not trained on. "
    caption += f"The line is the {_confidence(fusion)} interval. A model whose interval contains 0 may add nothing."
    return [Figure("What does each model add?", svg, caption)]


def _dropped(facts: RunFacts, fusion: dict[str, Any]) -> list[Block]:
    texts = []
    for entry in fusion.get(DROPPED, []):
        text = f"{facts.label(entry[MODEL]).label} was dropped and has no part in the new table. "
        text += f"It adds at most one standard error to the best {_selected(fusion)} "
        texts.append(f"{text}(NDCG@{fusion.get('k')} {gap(entry)}).")
    return [Bullets(texts)] if texts else []


def _costs(facts: RunFacts, fusion: dict[str, Any]) -> Table:
    alone, added = fusion.get("valid_ndcg") or {}, fusion.get("leave_one_out") or {}
    models = facts.in_order(alone or fusion["weights"])
    fit, ask = _fit_seconds(facts), facts.counts("score").get("seconds") or {}
    dropped = {entry[MODEL] for entry in fusion.get(DROPPED, [])}
    rows = [
        (
            facts.label(model).label,
            metric(alone.get(model)),
            signed(added[model]["mean"]) if model in added else NONE,
            signed_bounds(added[model]) if model in added else NONE,
            tenths(fit.get(model)),
            tenths(ask.get(model)),
            "dropped" if model in dropped else "yes",
        )
        for model in models
    ]
    head = ("model", f"NDCG@{fusion.get('k', '')}", "adds", "interval", "fit s", "score s", "used")
    hints = {
        1: "NDCG of the model's own list on the validation set",
        2: f"NDCG that the {_selected(fusion)} loses without the model",
        3: f"{_confidence(fusion)} interval over users",
        4: "elapsed seconds to fit the model in the backtest",
        5: f"seconds to score {number(facts.counts('score').get('users'))} users in the backtest, summed over tasks",
        6: "whether the new table uses the model",
    }
    title = "What does each model bring, and what does it cost?"
    return Table(title, head, rows, frozenset(range(1, 6)), hints=hints, dots=facts.colours(models))


def _fit_seconds(facts: RunFacts) -> dict[str, float]:
    """Return the elapsed seconds to fit each model in the backtest."""
    trained = {m.stage: m.seconds for m in facts.manifests if m.pass_name == BACKTEST and m.stage == "train"}
    network = {NETWORK: trained["train"]} if facts.training and trained else {}
    return {**(facts.counts("baselines").get("seconds") or {}), **network}


def _selected(fusion: dict[str, Any]) -> str:
    """Return the method that makes the lists, by which the models are judged too."""
    return "ranker" if fusion.get("selected") == "ranker" else "blend"


def _confidence(fusion: dict[str, Any]) -> str:
    return f"{fusion.get('confidence', 0.95):.0%}"
