"""What the report says, section by section, in the order of the night. Every section copes with what a run does not have."""

from __future__ import annotations

from typing import Any

from recsys_spark.columns import BACKTEST, RELEASE
from recsys_spark.report import formatting, plots
from recsys_spark.report.accuracy import accuracy
from recsys_spark.report.blocks import Block, Figure, Gates, Note, Section, Text, Users
from recsys_spark.report.clean import clean
from recsys_spark.report.cold_start import newcomers
from recsys_spark.report.formatting import number
from recsys_spark.report.fusion import score
from recsys_spark.report.models import baselines, features, train
from recsys_spark.report.run_facts import STAGES, RunFacts

RECOMMENDATIONS_SHOWN = 10
_HELD_OUT = {
    "last_n": "the last items of each user",
    "temporal": "the last days of the log",
    "random": "random items of each user",
}
_WHOLE = {"users_with_cold_user": "users", "cold_item": "pairs that other users have with hidden items"}


def sections(
    facts: RunFacts, verdict: dict[str, Any], examples: list[dict[str, Any]], bad_rows: list[dict[str, Any]]
) -> list[Section]:
    """All sections; `examples` and `bad_rows` as the functions of examples.py give them."""
    return [
        Section("clean", "What came in", clean(facts, bad_rows)),
        Section("split", "What was held out to test on", split(facts)),
        Section("baselines", "The simple models", baselines(facts)),
        Section("features", "What the network reads", features(facts)),
        Section("train", "The network learning", train(facts)),
        Section("score", "How the models are blended", score(facts)),
        Section("evaluate", "How good the lists are", accuracy(facts)),
        Section("newcomers", "How new users and new items fare", newcomers(facts)),
        Section("publish", "May it go live?", gates(verdict)),
        Section("users", "Some users, and what they get tonight", users(examples)),
        Section("timings", "Where the time went", timings(facts)),
    ]


def split(facts: RunFacts) -> list[Block]:
    counts = facts.counts("split")
    how = _HELD_OUT.get(facts.settings("split").get("method", ""), "some items")
    text = f"To measure without cheating, {how} were hidden from the models: "
    text += f"{number(counts.get('train'))} user–item pairs to learn from, "
    text += f"{number(counts.get('valid'))} to choose settings with, {number(counts.get('test'))} to test on"
    if "users_with_test" in counts:
        text += f", of {number(counts['users_with_test'])} users"
    whole = [f"{number(counts[name])} {what}" for name, what in _WHOLE.items() if counts.get(name)]
    if whole:
        text += f". To see how newcomers fare, these were hidden whole: {', and '.join(whole)}"
    return [Text(text + ". For tonight's table the models then learn from everything.")]


def gates(verdict: dict[str, Any]) -> list[Block]:
    found = [{**gate, "title": formatting.GATES.get(gate["gate"], gate["gate"])} for gate in verdict["gates"]]
    if not found:
        return [Note("No gates are set, so the table goes live whatever the numbers.")]
    text = "The gates that the configuration sets. One that fails keeps last night's table in place."
    return [Text(text), Gates(found)]


def users(examples: list[dict[str, Any]]) -> list[Block]:
    if not examples:
        return [Note("There are no users to show, or the configuration asks for none.")]
    text = "Chosen by chance, but the same in every run: the newest items of each history beside the first "
    text += f"{RECOMMENDATIONS_SHOWN} of tonight's list. The dot says which model put an item there, "
    text += "the line below it which item of the history speaks most for it; what is merely popular has no such line."
    return [Text(text), Users(examples, RECOMMENDATIONS_SHOWN)]


def timings(facts: RunFacts) -> list[Block]:
    # what comes after this page, or is of an earlier try of it, would mislead
    spent = {(m.stage, m.pass_name): m.seconds for m in facts.manifests if m.stage != "publish"}
    spent.pop(("evaluate", RELEASE), None)
    names = [stage for stage in STAGES if (stage, BACKTEST) in spent or (stage, RELEASE) in spent]
    backtest, release = ([spent.get((name, of), 0.0) for name in names] for of in (BACKTEST, RELEASE))
    how = "One bar a stage: the backtest, then the pass that makes tonight's table. Clean serves both and counts once."
    text = f"{formatting.seconds(sum(spent.values()))} for all stages before this page; its own seconds and those of publishing come on top."
    return [Text(text), Figure("Seconds of each stage", plots.timings(names, backtest, release), how)]
