"""Write numbers, intervals and names for people."""

from __future__ import annotations

from typing import Any

METRICS = {
    "ndcg": ("NDCG", "Hits count more the higher they rank. 1 is a perfect list."),
    "recall": ("Recall", "Share of a user's hidden items that are in the list."),
    "hit_rate": ("Hit rate", "Share of users with at least one hit."),
    "mrr": ("MRR", "1 / rank of the first hit, as a mean over users."),
    "map": ("MAP", "Mean of the precisions at each hit."),
    "precision": ("Precision", "Share of the list that is a hit."),
    "f1": ("F1", "Harmonic mean of recall and precision."),
}
"""Name and explanation of each accuracy metric."""
BEYOND_ACCURACY = {
    "coverage": ("Coverage", "Share of the catalogue in at least one list.", "{:.1%}"),
    "novelty": ("Novelty", "Mean self-information of the listed items in bits. Higher means less popular.", "{:.2f}"),
    "gini": ("Gini", "0: all items are listed equally often. 1: a single item fills all lists.", "{:.2f}"),
    "diversity": ("Diversity", "How different the categories within a list are, from 0 to 1.", "{:.2f}"),
    "average_popularity": ("Popularity", "Number of users of the average listed item.", "{:,.0f}"),
}
"""Name, explanation and format of each other metric."""
GATES = {
    "max_drop_below_best_baseline": "Blend compared with the best baseline",
    "min_ndcg": "Accuracy of the blend",
    "min_coverage": "Coverage of the catalogue",
    "every_user_served": "A list for every user",
    "max_size_change": "Size of the table",
}
NONE = "–"
Estimate = dict[str, Any]
"""{mean, low, high}: a mean over users with the bounds of its interval."""


def number(value: Any) -> str:
    """1234567 -> 1,234,567; 0.12345 -> 0.1235; None -> a dash."""
    if value is None:
        return NONE
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{int(value):,}"


def metric(value: float | None) -> str:
    """Return four decimals, so that columns of metrics align."""
    return NONE if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.1%}" if value == 0 or abs(value) >= 0.001 else f"{value:.3%}"


def tenths(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}"


def seconds(value: float) -> str:
    """8.04 -> 8.0 s; 95 -> 1 min 35 s."""
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60)} s"


def short(value: float, digits: int = 3) -> str:
    """1200 -> 1.2k; 3400000 -> 3.4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def cut(text: str, longest: int = 160) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def signed(value: float, form: str = ".4f") -> str:
    """+0.0123 or −0.0123, with a minus as wide as the plus."""
    return format(value, "+" + form).replace("-", "−")


def bounds(estimate: Estimate) -> str:
    """0.0900–0.1100; a dash without bounds."""
    return f"{metric(estimate['low'])}–{metric(estimate['high'])}" if "low" in estimate else NONE


def signed_bounds(estimate: Estimate, form: str = ".4f") -> str:
    """+0.0100 to +0.0300."""
    return f"{signed(estimate['low'], form)} to {signed(estimate['high'], form)}"


def gap(estimate: Estimate) -> str:
    """+0.0200, interval +0.0100 to +0.0300."""
    return f"{signed(estimate['mean'])}, interval {signed_bounds(estimate)}"


def significant(estimate: Estimate) -> bool:
    """Return whether the interval of a difference excludes 0."""
    return not estimate["low"] <= 0 <= estimate["high"]
