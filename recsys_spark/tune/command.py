"""The command line of the settings search: arguments → config and spaces → a study's folder → searches, one model after the other → best.yaml."""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from recsys_spark.columns import FUSED
from recsys_spark.errors import ConfigError
from recsys_spark.pipeline import job
from recsys_spark.pipeline.job import Context
from recsys_spark.stages.clean import stage as clean
from recsys_spark.storage.layout import StudyLayout
from recsys_spark.storage.manifest import write_json
from recsys_spark.tune import overlay, plot
from recsys_spark.tune.judge import TUNABLE, Judge
from recsys_spark.tune.search import SAMPLERS, Found, Search
from recsys_spark.tune.settings import Settings
from recsys_spark.tune.space import Group, read, spec

log = logging.getLogger("recsys_spark.tune")

_FILES = "paths."
STOPPED = 130
"""Exit code of a search that was told to stop."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; a known error is told in one line."""
    arguments = _parse(argv)
    job.start_log(arguments.debug)
    try:
        settings = Settings.read(Path(arguments.config), arguments.set)
        groups = read(arguments.space, settings.config.models, TUNABLE)
        return _run(arguments, settings, groups)
    except Exception as error:  # the last line of defence, as in the job
        return job.tell(error, arguments.debug)
    except KeyboardInterrupt:
        log.warning("tune: stopped; the same command goes on")
        return STOPPED


def _run(arguments: argparse.Namespace, settings: Settings, groups: list[Group]) -> int:
    end = time.monotonic() + 60 * arguments.minutes
    root = Path(settings.config.paths.root)
    layout = (
        StudyLayout(arguments.study.resolve())
        if arguments.study
        else StudyLayout.under(root, [g.model for g in groups])
    )
    job.check_writable(layout)
    config = settings.config_with({"paths.root": str(layout.root)})
    context = Context(config, layout, arguments.run_date or _begun(layout) or job.today())
    try:
        with job.exclusive(layout):
            _ask(layout, _question(context, settings, groups))
            judge = Judge(context, layout, settings)
            if not arguments.debug:
                _say_less()
            searches = [Search(layout.trials, g, sampler=arguments.sampler, seed=arguments.seed) for g in groups]
            results = _Results(layout, settings, searches, len(judge.held.histories))
            try:
                for left, search in zip(range(len(searches), 0, -1), searches):
                    share = (end - time.monotonic()) / left
                    start = {key: settings.value(key) for key in search.group.keys}
                    objective = judge.objective(search.group.model)
                    search.run(start, objective, time.monotonic() + share, results.write)
            finally:
                results.close()
                judge.close()
    finally:
        context.stop()
    return 0


def _say_less() -> None:
    """A line a trial, and of the network one an epoch."""
    levels = {"": logging.WARNING, ".tune": logging.INFO, ".stages.train": logging.INFO}
    for name, level in levels.items():
        logging.getLogger(f"recsys_spark{name}").setLevel(level)
    # it would tell of Ctrl-C with a stack trace
    logging.getLogger("py4j").setLevel(logging.CRITICAL)


class _Results:
    """What is written of the searches: the overlay after each trial, so that it is there whatever happens, the plot at the end."""

    def __init__(self, layout: StudyLayout, settings: Settings, searches: list[Search], users: int):
        self.layout, self.settings, self.searches = layout, settings, searches
        self.measure = {"k": settings.config.evaluate.gate_k, "users": users}

    @property
    def found(self) -> list[Found]:
        return [found for search in self.searches if (found := search.found())]

    def write(self, _: Search) -> None:
        date = job.today().isoformat()
        head = overlay.head(self.found, overlay=self.settings.overlay, date=date, **self.measure)
        overlay.write(self.layout.best, self.settings.tree_with(overlay.best_values(self.found)), head)

    def close(self) -> None:
        found = self.found
        if not found:
            return
        importances = [search.importances() for search in self.searches if search.found()]
        plot.draw(self.layout.importance, found, importances, k=self.measure["k"])
        for each in found:
            log.info("%s", overlay.line(each))
        log.info("tune: %s and %s", self.layout.best, self.layout.importance.name)


def _question(context: Context, settings: Settings, groups: list[Group]) -> dict[str, Any]:
    """Everything that the study's NDCGs depend on, by name."""
    facts = {
        "run date": context.run_date.isoformat(),
        **settings.facts(fused=any(g.model == FUSED for g in groups)),
    }
    facts |= {f"{_FILES}{name}": identity for name, identity in clean.inputs(context).items()}
    return facts | {
        f"{group.model} space, {key}": spec(distribution)
        for group in groups
        for key, distribution in group.keys.items()
    }


def _ask(layout: StudyLayout, question: dict[str, Any]) -> None:
    """Note what the study is about; `ConfigError` when it was begun about something else: its NDCGs would not compare."""
    begun = _noted(layout)
    if begun is None:
        write_json(layout.question, question)
        return
    question = json.loads(json.dumps(question))
    changed = [name for name in sorted({*begun, *question}) if begun.get(name) != question.get(name)]
    if changed:
        way = f"study {layout.root} was begun with something else; give another --study, or change it back"
        raise ConfigError([way, *(_change(name, begun, question) for name in changed)])


def _change(name: str, begun: dict[str, Any], now: dict[str, Any]) -> str:
    if name.startswith(_FILES):
        return f"{name}: the files have changed since"
    return f"{name}: was {begun.get(name, 'not there')!r}, is {now.get(name, 'not there')!r}"


def _noted(layout: StudyLayout) -> dict[str, Any] | None:
    try:
        return dict(json.loads(layout.question.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _begun(layout: StudyLayout) -> date | None:
    """The run date that the study was begun with."""
    noted = _noted(layout)
    return date.fromisoformat(noted["run date"]) if noted else None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recsys_spark.tune",
        description="Search for better settings of single models or of all together, judged on the valid fold.",
    )
    job.add_arguments(parser)
    parser.add_argument("--space", type=Path, nargs="+", required=True, help="what to search, like conf/tune/als.yaml")
    parser.add_argument("--minutes", type=_minutes, required=True, help="for everything; the models share what is left")
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="tpe: Bayesian (default: tpe)")
    parser.add_argument("--seed", type=int, default=7, help="of what is tried (default: 7)")
    parser.add_argument(
        "--study",
        type=Path,
        help="folder of the search, which goes on there (default: tune/<models> in paths.root)",
    )
    return parser.parse_args(argv)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time; give minutes above 0")
    return minutes
