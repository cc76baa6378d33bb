"""`recsys tune`: searches for better settings, one model after the other, and writes best.yaml and importance.png."""

from __future__ import annotations

import argparse
import json
import logging
import time
from datetime import date
from pathlib import Path
from typing import Any

from recsys_spark.columns import FUSED
from recsys_spark.errors import ConfigError
from recsys_spark.pipeline.context import Context, check_writable, today
from recsys_spark.pipeline.lock import run_lock
from recsys_spark.stages.clean import stage as clean
from recsys_spark.storage.layout import StudyLayout
from recsys_spark.storage.manifest import write_json
from recsys_spark.tune import overlay, plot
from recsys_spark.tune.evaluation import TUNABLE, TrialEvaluator
from recsys_spark.tune.search import Search, SearchResult
from recsys_spark.tune.settings import Settings
from recsys_spark.tune.space import SearchSpace, as_written, read_spaces

log = logging.getLogger("recsys_spark.tune")

_FILES = "paths."
_RUN_DATE = "run date"


def run(arguments: argparse.Namespace) -> int:
    """Search until the time is used up; return the exit code. The same command continues a stopped search."""
    end = time.monotonic() + 60 * arguments.minutes
    settings = Settings.read(Path(arguments.config), arguments.set)
    spaces = read_spaces(arguments.space, settings.config.models, TUNABLE)
    if arguments.study:
        layout = StudyLayout(arguments.study.resolve())
    else:
        layout = StudyLayout.under(Path(settings.config.paths.root), [space.model for space in spaces])
    check_writable(layout)
    config = settings.config_with({"paths.root": str(layout.root)})
    context = Context(config, layout, arguments.run_date or _recorded_date(layout) or today())
    try:
        with run_lock(layout):
            _check_facts(layout, _facts(context, settings, spaces))
            evaluator = TrialEvaluator(context, layout, settings)
            if not arguments.debug:
                _quieten()
            searches = [
                Search(layout.trials, space, sampler=arguments.sampler, seed=arguments.seed) for space in spaces
            ]
            _search(searches, evaluator, _Output(layout, settings, searches, evaluator.n_users), end)
    finally:
        context.stop()
    return 0


def _search(searches: list[Search], evaluator: TrialEvaluator, output: _Output, end: float) -> None:
    """Run the searches one after the other. Each gets an equal share of the time that is left when it starts."""
    try:
        for left, search in zip(range(len(searches), 0, -1), searches):
            share = (end - time.monotonic()) / left
            start = {key: output.settings.value(key) for key in search.space.keys}
            objective = evaluator.objective(search.space.model)
            search.run(start, objective, time.monotonic() + share, output.write_overlay)
    finally:
        output.write_plot()
        evaluator.close()


def _quieten() -> None:
    """Log one line per trial, and one per epoch of the network."""
    levels = {"": logging.WARNING, ".tune": logging.INFO, ".stages.train": logging.INFO}
    for name, level in levels.items():
        logging.getLogger(f"recsys_spark{name}").setLevel(level)
    # py4j reports Ctrl-C with a stack trace
    logging.getLogger("py4j").setLevel(logging.CRITICAL)


class _Output:
    """The files of a search: the overlay after each trial, so that it always exists, and the plot at the end."""

    def __init__(self, layout: StudyLayout, settings: Settings, searches: list[Search], users: int):
        self.layout, self.settings, self.searches, self.users = layout, settings, searches, users
        self.k = settings.config.evaluate.gate_k

    def results(self) -> list[SearchResult]:
        return [result for search in self.searches if (result := search.result())]

    def write_overlay(self, _: Search) -> None:
        results = self.results()
        comments = overlay.comments(
            results, overlay=self.settings.overlay, date=today().isoformat(), k=self.k, users=self.users
        )
        overlay.write(self.layout.best, self.settings.tree_with(overlay.best_values(results)), comments)

    def write_plot(self) -> None:
        results = self.results()
        if not results:
            return
        importances = [search.importances() for search in self.searches if search.result()]
        plot.draw(self.layout.importance, results, importances, k=self.k)
        for result in results:
            log.info("%s", overlay.summary(result))
        log.info("tune: wrote %s and %s", self.layout.best, self.layout.importance.name)


def _facts(context: Context, settings: Settings, spaces: list[SearchSpace]) -> dict[str, Any]:
    """Return everything that the NDCGs of the study depend on, by name."""
    facts = {
        _RUN_DATE: context.run_date.isoformat(),
        **settings.facts(fused=any(space.model == FUSED for space in spaces)),
        **{f"{_FILES}{name}": identity for name, identity in clean.inputs(context).items()},
    }
    for space in spaces:
        facts |= {f"{space.model} space, {key}": as_written(value) for key, value in space.keys.items()}
    return facts


def _check_facts(layout: StudyLayout, facts: dict[str, Any]) -> None:
    """Record the facts of a new study. `ConfigError` when an existing one has others: its NDCGs would not compare."""
    recorded = _recorded(layout)
    if recorded is None:
        write_json(layout.facts, facts)
        return
    facts = json.loads(json.dumps(facts))
    changed = [name for name in sorted({*recorded, *facts}) if recorded.get(name) != facts.get(name)]
    if changed:
        head = f"study {layout.root} was started with other settings. Give another --study or restore them"
        raise ConfigError([head, *(_change(name, recorded, facts) for name in changed)])


def _change(name: str, recorded: dict[str, Any], facts: dict[str, Any]) -> str:
    if name.startswith(_FILES):
        return f"{name}: the files have changed"
    return f"{name}: was {recorded.get(name, 'absent')!r}, is {facts.get(name, 'absent')!r}"


def _recorded(layout: StudyLayout) -> dict[str, Any] | None:
    try:
        return dict(json.loads(layout.facts.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _recorded_date(layout: StudyLayout) -> date | None:
    """Return the run date that the study was started with."""
    recorded = _recorded(layout)
    return date.fromisoformat(recorded[_RUN_DATE]) if recorded else None
