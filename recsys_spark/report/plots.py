"""Draw the report's plots: numbers in, an inline SVG out. Texts take the font of the page, ink and grid its colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from recsys_spark.report.formatting import Estimate, short, signed

ACCENT, SECOND, HIGHLIGHT, GREY = "#1f8ac9", "#e69f00", "#d55e00", "#8b929c"
# placeholders that become colours of the page, so that a plot follows its light and dark theme
_INK, _GRID = "#0a0b0c", "#0a0b0d"
_WIDTH = 4.6
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recsys_spark",
    "font.size": 10.0,
    "text.parse_math": False,  # labels come from data and may contain dollar signs
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


def bars(
    labels: Sequence[str], values: Sequence[float], texts: Sequence[str], colours: Sequence[str] | str = ACCENT
) -> str:
    """Draw horizontal bars, the first on top, each with its text at the end."""
    with rc_context(_STYLE):
        figure, axes = _figure(0.29 * len(labels) + 0.25)
        axes.barh(range(len(labels)), values, color=colours, height=0.66)
        _rows(axes, labels)
        _hide_x_axis(axes)
        widest = max([abs(v) for v in values] or [1]) or 1
        for place, (value, text) in enumerate(zip(values, texts)):
            axes.text(max(value, 0) + widest * 0.015, place, text, va="center")
        axes.set_xlim(min(0, *values), widest * 1.02 + widest * 0.022 * max(map(len, texts)))
        return _svg(figure)


def intervals(
    labels: Sequence[str],
    estimates: Sequence[Estimate],
    colours: Sequence[str] | str = ACCENT,
    x: str = "",
    differences: bool = False,
    form: str = ".4f",
) -> str:
    """Draw a dot at each mean and a line over its interval. `differences` have signs and a line at 0."""
    with rc_context(_STYLE):
        figure, axes = _figure(0.34 * len(labels) + 0.6)
        shades = [colours] * len(labels) if isinstance(colours, str) else colours
        low, high = min(e["low"] for e in estimates), max(e["high"] for e in estimates)
        if differences:
            low, high = min(low, 0.0), max(high, 0.0)
            axes.axvline(0, color=_INK, linewidth=0.8)
        for place, (estimate, shade) in enumerate(zip(estimates, shades)):
            ends, mean = [estimate["low"], estimate["high"]], estimate["mean"]
            axes.plot(ends, [place, place], color=shade, linewidth=2.6, solid_capstyle="round")
            axes.plot([mean], [place], "o", color=shade, markersize=7.5)
            text = signed(mean, form) if differences else format(mean, form)
            axes.text(ends[1] + (high - low) * 0.03, place, text, va="center")
        _rows(axes, labels)
        margin = (high - low) or abs(high) or 1.0
        axes.set_xlim(low - margin * 0.06, high + margin * 0.2)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if form.endswith("%"):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}".replace("-", "−")))
        axes.grid(axis="x")
        axes.set_xlabel(x)
        return _svg(figure)


def columns(labels: Sequence[str], values: Sequence[float]) -> str:
    """Draw vertical bars over time; only some of the labels are written."""
    with rc_context(_STYLE):
        figure, axes = _figure(2.0)
        axes.bar(range(len(values)), values, color=ACCENT, width=0.82)
        step = max(1, -(-len(labels) // 5))
        axes.set_xticks(range(0, len(labels), step), labels[::step])
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        return _svg(figure)


def curve(x: Sequence[float], y: Sequence[float], colour: str, best: float | None = None, x_name: str = "") -> str:
    """Draw one line, with a large dot at x = `best`."""
    with rc_context(_STYLE):
        figure, axes = _figure(2.0)
        axes.plot(x, y, "-o", color=colour, markersize=3.5, linewidth=1.8)
        if best is not None and best in x:
            axes.plot([best], [y[list(x).index(best)]], "o", color=HIGHLIGHT, markersize=8, zorder=5)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v, 4)))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel(x_name)
        return _svg(figure)


def tradeoff(points: Sequence[tuple[float, float]], labels: Sequence[str], chosen: int | None, x: str, y: str) -> str:
    """Draw a labelled dot for each (x, y), joined by a line; the chosen one is large."""
    with rc_context(_STYLE):
        figure, axes = _figure(2.6)
        xs, ys = zip(*points)
        axes.plot(xs, ys, "-o", color=ACCENT, markersize=4, linewidth=1.8)
        if chosen is not None:
            axes.plot(xs[chosen], ys[chosen], "o", color=HIGHLIGHT, markersize=9, zorder=5)
        for at, label in enumerate(labels):
            # alternate the sides, since neighbours may lie close together
            offset, side = ((7, 4), "left") if at % 2 == 0 else ((-7, -11), "right")
            axes.annotate(label, (xs[at], ys[at]), offset, textcoords="offset points", ha=side, fontsize=8.5)
        axes.margins(0.18, 0.16)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid()
        return _svg(figure)


def concentration(
    log: Sequence[tuple[float, float]], curves: Mapping[str, tuple[str, Sequence[tuple[float, float]]]]
) -> str:
    """Draw the share of the most popular part of the catalogue: `log` dashed, and name -> (colour, points)."""
    with rc_context(_STYLE):
        figure, axes = _figure(3.1)
        axes.plot(*zip(*log), color=_INK, linestyle=(0, (4, 2)), linewidth=1.8, label="interactions")
        for name, (colour, points) in curves.items():
            axes.plot(*zip(*points), color=colour, linewidth=1.8, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([x for x in (0.0001, 0.001, 0.01, 0.1, 1) if x >= log[0][0]]))
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


def timings(stages: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Draw the seconds of each stage as one bar, made of the series: name -> seconds of each stage."""
    with rc_context(_STYLE):
        figure, axes = _figure(0.31 * len(stages) + 0.5)
        totals = [0.0] * len(stages)
        for (name, values), colour in zip(series.items(), (GREY, ACCENT, SECOND)):
            axes.barh(range(len(stages)), values, left=totals, color=colour, height=0.66, label=name)
            totals = [total + value for total, value in zip(totals, values)]
        _rows(axes, stages)
        _hide_x_axis(axes)
        widest = max(totals) or 1
        for place, total in enumerate(totals):
            axes.text(total + widest * 0.015, place, f"{total:,.1f} s", va="center")
        axes.set_xlim(0, widest * 1.18)
        figure.legend(loc="outside lower center", ncols=len(series), handlelength=1)
        return _svg(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label one row for each text, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)


def _hide_x_axis(axes: Axes) -> None:
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _svg(figure: Figure) -> str:
    """Return the bare <svg> element, without doctype and metadata, which name other servers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    head = r'<svg viewBox="\1" xmlns:xlink="http://www.w3.org/1999/xlink">'
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', head, text, count=1)
    text = re.sub(r"\s*<g id=\"(\w+)\">", "<g>", text)  # ids of groups repeat from plot to plot
    return text.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
