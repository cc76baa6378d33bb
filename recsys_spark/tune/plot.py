"""importance.png: for each model the NDCG of its trials in their order, what mattered, and the NDCG against each key's value."""

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

from recsys_spark.report.plots import ACCENT, COLOURS, FUSED, short
from recsys_spark.tune.search import Found

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
    "text.parse_math": False,  # a choice may hold dollars
}
_BEST = COLOURS[FUSED]


def draw(path: Path, found: Sequence[Found], importances: Sequence[Mapping[str, float]], *, k: int) -> None:
    """Write the picture of all `found`; `importances` are theirs, empty where there are too few trials."""
    rows = [math.ceil((2 + len(each.group.keys)) / COLUMNS) for each in found]
    with rc_context(_STYLE):
        figure = Figure(figsize=(COLUMNS * _WIDTH, sum(rows) * _HEIGHT + 0.4 * len(rows)), layout="constrained")
        parts = np.atleast_1d(figure.subfigures(len(found), 1, height_ratios=rows))
        for part, each, height, importance in zip(parts, found, rows, importances):
            part.suptitle(
                f"{each.group.model}: valid NDCG@{k} {each.start.ndcg:.4f} to {each.best.ndcg:.4f}",
                weight="bold",
            )
            panels = list(part.subplots(height, COLUMNS, squeeze=False).flat)
            _draw_course(panels[0], each)
            _draw_importance(panels[1], each, importance)
            for axes, (key, distribution) in zip(panels[2:], each.group.keys.items()):
                _draw_key(axes, each, key, distribution)
            for axes in panels[2 + len(each.group.keys) :]:
                axes.set_axis_off()
        figure.savefig(path, dpi=110)


def _draw_course(axes: Axes, found: Found) -> None:
    """NDCG of the trials in their order, and the best so far."""
    numbers, ndcgs = list(found.tried), [tried.ndcg for tried in found.tried.values()]
    axes.plot(numbers, ndcgs, ".", color=ACCENT, alpha=0.6)
    axes.step(numbers, np.maximum.accumulate(ndcgs), where="post", color=_BEST, linewidth=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title("NDCG by trial, and the best so far")


def _draw_importance(axes: Axes, found: Found, importance: Mapping[str, float]) -> None:
    axes.set_title("what mattered")
    if not importance:
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    places = range(len(importance))
    axes.barh(places, list(importance.values()), color=ACCENT, height=0.66)
    axes.set_yticks(places, [_name(key) for key in importance])
    axes.set_ylim(len(importance) - 0.45, -0.55)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(axis="y", visible=False)


def _draw_key(axes: Axes, found: Found, key: str, distribution: BaseDistribution) -> None:
    """The NDCG of each trial against its value of the key; the start is hollow, the best one large."""
    tried = list(found.tried.values())
    values = [each.values[key] for each in tried]
    if isinstance(distribution, CategoricalDistribution):
        choices = list(dict.fromkeys([*distribution.choices, *values]))
        axes.set_xticks(range(len(choices)), [str(choice) for choice in choices])
        values = [choices.index(value) for value in values]
    elif getattr(distribution, "log", False):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
    ndcgs = [each.ndcg for each in tried]
    best = ndcgs.index(found.best.ndcg)
    axes.plot(values[1:], ndcgs[1:], ".", color=ACCENT, alpha=0.6)
    axes.plot(values[:1], ndcgs[:1], "o", markerfacecolor="none", markeredgecolor="black")
    axes.plot(values[best], ndcgs[best], "o", color=_BEST, markersize=7)
    axes.set_title(f"{_name(key)}, best {_text(tried[best].values[key])}")


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _text(value: Any) -> str:
    return short(value) if isinstance(value, float) else str(value)
