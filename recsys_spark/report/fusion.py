"""The report's section on the fused list: who has which say, what each model adds and costs, which were dropped, and whether a ranker ships."""

from __future__ import annotations

from typing import Any

from recsys_spark.columns import BACKTEST, DROPPED, MODEL, NETWORK, RELEASE
from recsys_spark.report import formatting, plots
from recsys_spark.report.blocks import Block, Bullets, Figure, Note, Table, Text
from recsys_spark.report.formatting import number
from recsys_spark.report.run_facts import RunFacts

_METHODS = {
    "zscore": "scores are made comparable for each user (z-scores), then added up with these weights",
    "rrf": "1 / rank is added up with these weights",
}


def score(facts: RunFacts) -> list[Block]:
    fusion, counts = facts.fusion, facts.counts("score", RELEASE)
    text = f"Tonight's table has {number(counts.get('rows'))} rows for {number(counts.get('users'))} users"
    if "users_without_history" in counts:
        text += f"; {number(counts['users_without_history'])} of them have no history and get what is popular"
    if not fusion.get("weights"):
        return [Text(text + "."), Note("The weights of the blend were not written down by this run.")]
    blocks: list[Block] = [Text(f"{text}. {_shipped(fusion)}"), _weights(facts, fusion)]
    blocks += _adds(facts, fusion)
    blocks += _dropped(fusion)
    return [*blocks, _each(facts, fusion)]


def _shipped(fusion: dict[str, Any]) -> str:
    """Whether the blend or a ranker makes the lists, and how they compared."""
    found = fusion.get("contest")
    if not found:
        return f"The {_ships(fusion)} makes the lists; no other was tried."
    gap = found["difference"]
    won = gap["low"] > 0
    figures = f"NDCG@{fusion['k']} {formatting.metric(found['ranker'])} against the blend's {formatting.metric(found['blend'])}, {_gap(gap)}"
    judged = f"On validation items of users that it was not learned on, a learned ranker of the blend's best reaches {figures}"
    if _ships(fusion) == "ranker":
        return f"{judged}; {'so it makes the lists' if won else 'it makes the lists as the configuration asks'}."
    return f"{judged}; it ships only when the whole interval is above 0, so the blend makes the lists."


def _weights(facts: RunFacts, fusion: dict[str, Any]) -> Figure:
    names = _in_order(facts, fusion["weights"])
    values = [float(fusion["weights"][name]) for name in names]
    shades = [plots.colour(name) for name in names]
    svg = plots.bars([formatting.model(n) for n in names], values, [f"{v:.2f}" for v in values], shades)
    method = _METHODS.get(fusion.get("method", ""), "the lists are added up with these weights")
    how = f"A longer bar has more say: {method}. Learned on the validation items."
    return Figure("Weights of the blend", svg, how)


def _adds(facts: RunFacts, fusion: dict[str, Any]) -> list[Block]:
    found = fusion.get("leave_one_out") or {}
    if not found:
        return []
    names = _in_order(facts, found)
    spans = [(found[name]["mean"], found[name]["low"], found[name]["high"]) for name in names]
    shades = [plots.colour(name) for name in names]
    svg = plots.intervals([formatting.model(n) for n in names], spans, shades, f"NDCG@{fusion['k']} added", signed=True)
    how = f"What a {_ships(fusion)} of all models loses without this one, learned anew; judged on users that it was not learned on. "
    how += f"The line is the {_share(fusion)} interval; one that holds 0 may add nothing."
    return [Figure("What each model adds", svg, how)]


def _dropped(fusion: dict[str, Any]) -> list[Block]:
    k = fusion.get("k")
    rule = f"adds no more to the best {_ships(fusion)} than one standard error of that, so tonight neither fits nor asks it"
    items = [
        f"{formatting.model(gone[MODEL])} was dropped: it {rule} (NDCG@{k} {_gap(gone)})."
        for gone in fusion.get(DROPPED, [])
    ]
    return [Bullets(items)] if items else []


def _each(facts: RunFacts, fusion: dict[str, Any]) -> Table:
    alone, adds = fusion.get("valid_ndcg") or {}, fusion.get("leave_one_out") or {}
    names = _in_order(facts, alone or fusion["weights"])
    fit, ask = _fit_seconds(facts), facts.counts("score").get("seconds") or {}
    gone = {entry[MODEL] for entry in fusion.get(DROPPED, [])}
    rows = [
        (
            formatting.model(name),
            formatting.metric(alone.get(name)),
            formatting.signed(adds[name]["mean"]) if name in adds else formatting.NONE,
            f"{formatting.signed(adds[name]['low'])} to {formatting.signed(adds[name]['high'])}"
            if name in adds
            else formatting.NONE,
            formatting.tenths(fit.get(name)),
            formatting.tenths(ask.get(name)),
            "dropped" if name in gone else "yes",
        )
        for name in names
    ]
    head = ("model", f"NDCG@{fusion.get('k', '')}", "adds", "interval", "fit s", "score s", "tonight")
    hints = {
        1: "alone, on the validation items where the weights were chosen",
        2: f"what a {_ships(fusion)} of all models loses without this one",
        3: f"{_share(fusion)} of the resamples of users",
        4: "seconds to fit in the backtest, by the clock",
        5: f"seconds to score {number(facts.counts('score').get('users'))} users in the backtest, all tasks added up",
    }
    title = "What each model brings, and what it costs"
    return Table(title, head, rows, frozenset(range(1, 6)), hints=hints, marks=plots.marks(names))


def _fit_seconds(facts: RunFacts) -> dict[str, float]:
    """Seconds by the clock, by model, in the backtest."""
    trained = {m.stage: m.seconds for m in facts.manifests if m.pass_name == BACKTEST and m.stage == "train"}
    network = {NETWORK: trained["train"]} if facts.training and trained else {}
    return {**(facts.counts("baselines").get("seconds") or {}), **network}


def _ships(fusion: dict[str, Any]) -> str:
    """What makes the lists, and what the models were judged by."""
    return "ranker" if fusion.get("ships") == "ranker" else "blend"


def _gap(found: dict[str, float]) -> str:
    return f"{formatting.signed(found['mean'])}, interval {formatting.signed(found['low'])} to {formatting.signed(found['high'])}"


def _share(fusion: dict[str, Any]) -> str:
    return f"{fusion.get('confidence', 0.95):.0%}"


def _in_order(facts: RunFacts, names: dict[str, Any]) -> list[str]:
    """The models that `names` has, in the order in which they are named everywhere."""
    order = facts.metrics.get("models", [])
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
