"""Draws importance.png: for each model the NDCG of its trials, the importance of keys, and the NDCG by key value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution

from recsys_spark.report.formatting import short
from recsys_spark.report.plots import ACCENT, HIGHLIGHT
from recsys_spark.tune.search import SearchResult

COLUMNS = 4
_WIDTH, _HEIGHT = 3.2, 2.5
_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.titlesize": 10.0,
    "text.parse_math": False,  # a choice may contain dollar signs
}


def draw(path: Path, results: Sequence[SearchResult], importances: Sequence[Mapping[str, float]], *, k: int) -> None:
    """Write the figure of all `results`. An entry of `importances` is empty when there are too few trials."""
    rows = [math.ceil((2 + len(result.space.keys)) / COLUMNS) for result in results]
    with rc_context(_STYLE):
        figure = Figure(figsize=(COLUMNS * _WIDTH, sum(rows) * _HEIGHT + 0.4 * len(rows)), layout="constrained")
        parts = np.atleast_1d(figure.subfigures(len(results), 1, height_ratios=rows))
        for part, result, height, importance in zip(parts, results, rows, importances):
            gain = f"{result.start.ndcg:.4f} to {result.best.ndcg:.4f}"
            part.suptitle(f"{result.space.model}: validation NDCG@{k} {gain}", weight="bold")
            panels = list(part.subplots(height, COLUMNS, squeeze=False).flat)
            _draw_trials(panels[0], result)
            _draw_importance(panels[1], importance)
            for axes, (key, distribution) in zip(panels[2:], result.space.keys.items()):
                _draw_key(axes, result, key, distribution)
            for axes in panels[2 + len(result.space.keys) :]:
                axes.set_axis_off()
        figure.savefig(path, dpi=110)


def _draw_trials(axes: Axes, result: SearchResult) -> None:
    """Draw the NDCG of the trials in order, and the best so far."""
    numbers, ndcgs = list(result.trials), [trial.ndcg for trial in result.trials.values()]
    axes.plot(numbers, ndcgs, ".", color=ACCENT, alpha=0.6)
    axes.step(numbers, np.maximum.accumulate(ndcgs), where="post", color=HIGHLIGHT, linewidth=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title("NDCG by trial, and the best so far")


def _draw_importance(axes: Axes, importance: Mapping[str, float]) -> None:
    axes.set_title("importance of the keys")
    if not importance:
        axes.text(0.5, 0.5, "too few trials", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    positions = range(len(importance))
    axes.barh(positions, list(importance.values()), color=ACCENT, height=0.66)
    axes.set_yticks(positions, [_short_name(key) for key in importance])
    axes.set_ylim(len(importance) - 0.45, -0.55)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(axis="y", visible=False)


def _draw_key(axes: Axes, result: SearchResult, key: str, distribution: BaseDistribution) -> None:
    """Draw the NDCG of each trial by its value of the key. The start is hollow, the best trial large."""
    trials = list(result.trials.values())
    values = [trial.values[key] for trial in trials]
    if isinstance(distribution, CategoricalDistribution):
        choices = list(dict.fromkeys([*distribution.choices, *values]))
        axes.set_xticks(range(len(choices)), [str(choice) for choice in choices])
        values = [choices.index(value) for value in values]
    elif getattr(distribution, "log", False):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
    ndcgs = [trial.ndcg for trial in trials]
    best = ndcgs.index(result.best.ndcg)
    axes.plot(values[1:], ndcgs[1:], ".", color=ACCENT, alpha=0.6)
    axes.plot(values[:1], ndcgs[:1], "o", markerfacecolor="none", markeredgecolor="black")
    axes.plot(values[best], ndcgs[best], "o", color=HIGHLIGHT, markersize=7)
    value = trials[best].values[key]
    axes.set_title(f"{_short_name(key)}, best {short(value) if isinstance(value, float) else value}")


def _short_name(key: str) -> str:
    return key.rpartition(".")[2]
