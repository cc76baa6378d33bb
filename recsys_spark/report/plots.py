"""The report's plots: numbers in, one inline SVG out. Text stays text and takes the page's font; ink and grid take the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from recsys_spark.columns import (
    ALS,
    CONTENT,
    FUSED,
    ITEM_KNN,
    ITEM_RIDGE,
    NETWORK,
    POPULARITY,
    SVD,
    USER_KNN,
)

# Okabe & Ito's colours, which the colour-blind can tell apart; the blue a little lighter, so that it holds on a dark page; and three
# that are as far from these and from each other, to such eyes too, as these are
COLOURS = {
    POPULARITY: "#8b929c",
    ALS: "#e69f00",
    ITEM_KNN: "#009e73",
    ITEM_RIDGE: "#00696b",
    USER_KNN: "#c00e40",
    SVD: "#8260ef",
    CONTENT: "#c39e5b",
    NETWORK: "#1f8ac9",
    FUSED: "#d55e00",
}
ACCENT, SECOND = "#1f8ac9", "#e69f00"
_SPARE = "#cc79a7"
# stand-ins that become colours of the page, so that a plot follows light and dark
_INK, _GRID = "#0a0b0c", "#0a0b0d"
_WIDTH = 4.6
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recsys_spark",
    "font.size": 10.0,
    "text.parse_math": False,  # a label comes from data, and may hold dollars
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def colour(model: str) -> str:
    return COLOURS.get(model, _SPARE)


def marks(models: Sequence[str]) -> dict[int, str]:
    """Row of a table -> colour of its model."""
    return {row: colour(name) for row, name in enumerate(models)}


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    colours: Sequence[str] | str = ACCENT,
) -> str:
    """Horizontal bars, the first on top, each with its text at the end."""
    with rc_context(_STYLE):
        figure, axes = _figure(0.29 * len(labels) + 0.25)
        places = range(len(labels))
        axes.barh(places, values, color=colours, height=0.66)
        _rows(axes, labels)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        widest = max([abs(v) for v in values] or [1]) or 1
        for place, value, text in zip(places, values, texts):
            axes.text(max(value, 0) + widest * 0.015, place, text, va="center")
        axes.set_xlim(min(0, *values), widest * 1.02 + widest * 0.022 * max(map(len, texts)))
        return _svg(figure)


def intervals(
    labels: Sequence[str],
    estimates: Sequence[tuple[float, float, float]],
    colours: Sequence[str] | str = ACCENT,
    x: str = "",
    signed: bool = False,
    form: str = ".4f",
) -> str:
    """A dot at each mean and a line over its interval; `estimates` are (mean, low, high), written in `form`. `signed`: of differences, beside
    a line at 0."""
    with rc_context(_STYLE):
        figure, axes = _figure(0.34 * len(labels) + 0.6)
        shades = [colours] * len(labels) if isinstance(colours, str) else colours
        low, high = min(e[1] for e in estimates), max(e[2] for e in estimates)
        if signed:
            low, high = min(low, 0.0), max(high, 0.0)
            axes.axvline(0, color=_INK, linewidth=0.8)
        for place, ((mean, least, most), shade) in enumerate(zip(estimates, shades)):
            axes.plot([least, most], [place, place], color=shade, linewidth=2.6, solid_capstyle="round")
            axes.plot([mean], [place], "o", color=shade, markersize=7.5)
            axes.text(
                most + (high - low) * 0.03,
                place,
                format(mean, f"+{form}").replace("-", "−") if signed else format(mean, form),
                va="center",
            )
        _rows(axes, labels)
        margin = (high - low) or abs(high) or 1.0
        axes.set_xlim(low - margin * 0.06, high + margin * 0.2)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if form.endswith("%"):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}".replace("-", "−")))
        axes.grid(axis="x")
        axes.set_xlabel(x)
        return _svg(figure)


def columns(labels: Sequence[str], values: Sequence[float], colour: str = ACCENT) -> str:
    """Upright bars over time; few of the labels are written out."""
    with rc_context(_STYLE):
        figure, axes = _figure(2.0)
        axes.bar(range(len(values)), values, color=colour, width=0.82)
        step = max(1, -(-len(labels) // 5))
        axes.set_xticks(range(0, len(labels), step), labels[::step])
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        return _svg(figure)


def curve(x: Sequence[float], y: Sequence[float], colour: str, best: float | None = None, x_name: str = "") -> str:
    """One line; a large dot at x = `best`."""
    with rc_context(_STYLE):
        figure, axes = _figure(2.0)
        axes.plot(x, y, "-o", color=colour, markersize=3.5, linewidth=1.8)
        if best is not None and best in x:
            axes.plot([best], [y[list(x).index(best)]], "o", color=COLOURS[FUSED], markersize=8, zorder=5)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v, 4)))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel(x_name)
        return _svg(figure)


def trade(points: Sequence[tuple[float, float]], labels: Sequence[str], chosen: int | None, x: str, y: str) -> str:
    """What is paid (y) for what is got (x), a dot and a label each; a large dot for the one that is chosen."""
    with rc_context(_STYLE):
        figure, axes = _figure(2.6)
        xs, ys = zip(*points)
        axes.plot(xs, ys, "-o", color=ACCENT, markersize=4, linewidth=1.8)
        if chosen is not None:
            axes.plot(xs[chosen], ys[chosen], "o", color=COLOURS[FUSED], markersize=9, zorder=5)
        for at, label in enumerate(labels):
            # by turns on either side, since neighbours may lie close together
            place, side = ((7, 4), "left") if at % 2 == 0 else ((-7, -11), "right")
            axes.annotate(label, (xs[at], ys[at]), place, textcoords="offset points", ha=side, fontsize=8.5)
        axes.margins(0.18, 0.16)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid()
        return _svg(figure)


def concentration(curves: dict[str, Sequence[tuple[float, float]]], names: dict[str, str]) -> str:
    """Share of all places in lists (and of the log, dashed) that falls on the most popular part of the catalogue."""
    with rc_context(_STYLE):
        figure, axes = _figure(3.1)
        for key, points in curves.items():
            dashed = key not in COLOURS
            style = {"color": _INK, "linestyle": (0, (4, 2))} if dashed else {"color": colour(key)}
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                linewidth=1.8,
                label=names.get(key, key),
                **style,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(
            FixedLocator([x for x in (0.0001, 0.001, 0.01, 0.1, 1) if x >= min(p[0][0] for p in curves.values())])
        )
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda v, _: f"{v:.4%}".rstrip("0%").rstrip(".") + "%" if v < 1 else "100%")
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("most popular part of the catalogue")
        axes.grid()
        axes.legend(loc="upper left", handlelength=1.6)
        return _svg(figure)


def timings(stages: Sequence[str], backtest: Sequence[float], release: Sequence[float]) -> str:
    """Seconds of each stage, backtest and release one after the other in one bar."""
    with rc_context(_STYLE):
        figure, axes = _figure(0.31 * len(stages) + 0.5)
        places = range(len(stages))
        axes.barh(places, backtest, color=ACCENT, height=0.66, label="backtest")
        axes.barh(places, release, left=backtest, color=SECOND, height=0.66, label="release")
        _rows(axes, stages)
        totals = [a + b for a, b in zip(backtest, release)]
        widest = max(totals) or 1
        for place, total in zip(places, totals):
            axes.text(total + widest * 0.015, place, f"{total:,.1f} s", va="center")
        axes.set_xlim(0, widest * 1.18)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, handlelength=1)
        return _svg(figure)


def short(value: float, digits: int = 3) -> str:
    """1200 -> 1.2k, 3400000 -> 3.4M: for axes."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """One row a label, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)


def _svg(figure: Figure) -> str:
    """The bare <svg> element. What would ask another server for anything (doctype, metadata) is left out."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        r'<svg viewBox="\1" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
    text = re.sub(r"\s*<g id=\"(\w+)\">", "<g>", text)  # ids of groups repeat from plot to plot
    return text.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
