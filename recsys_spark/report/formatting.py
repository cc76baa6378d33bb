"""Numbers and names as a person reads them."""

from __future__ import annotations

from typing import Any

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

MODELS = {
    POPULARITY: ("Popularity", "what most users chose; the same for everyone, less what they have seen"),
    ALS: ("ALS", "matrix factorisation: users and items as vectors, learned by turns"),
    ITEM_KNN: ("Item cosine", "items that share users with what a person had"),
    ITEM_RIDGE: ("Item ridge", "what of a person's items tells most of an item, beside what the others tell"),
    USER_KNN: ("User cosine", "what those chose whose items are most like a person's"),
    SVD: ("SVD", "the broad patterns of who chose what, the fine ones filtered out"),
    CONTENT: ("Content", "items alike in title, text and categories, those nobody chose too"),
    NETWORK: ("Network", "two towers: reads the history, and the items' content"),
    FUSED: ("Blend", "all models together, weighted by what worked on the validation items"),
}
METRICS = {
    "ndcg": ("NDCG", "hits count more the higher they stand; 1 is perfect"),
    "recall": ("Recall", "share of a user's held-out items that the list found"),
    "hit_rate": ("Hit rate", "share of users with at least one hit"),
    "mrr": ("MRR", "1 / rank of the first hit"),
    "map": ("MAP", "mean of the precisions at each hit"),
    "precision": ("Precision", "share of the list that was a hit"),
    "f1": ("F1", "harmonic mean of recall and precision"),
}
BEYOND = {
    "coverage": ("Coverage", "share of the catalogue that somebody is shown"),
    "novelty": ("Novelty", "how unexpected the items are, in bits; higher is less mainstream"),
    "gini": ("Gini", "0: all items shown alike, 1: a single item has it all"),
    "diversity": ("Diversity", "how different the categories within a list are, 0 to 1"),
    "average_popularity": ("Popularity", "users who have the average recommended item"),
}
GATES = {
    "max_drop_below_best_baseline": "The blend holds up against the best baseline",
    "min_ndcg": "The blend is good enough",
    "min_coverage": "Enough of the catalogue is shown",
    "every_user_served": "Every user has a list",
    "max_size_change": "The table has about last night's size",
}
NONE = "–"


def model(name: str) -> str:
    return MODELS[name][0] if name in MODELS else name.replace("_", " ").capitalize()


def about(name: str) -> str:
    """What a model does, in half a sentence."""
    return MODELS[name][1] if name in MODELS else NONE


def number(value: Any) -> str:
    """1234567 -> 1,234,567; 0.12345 -> 0.1235; None -> a dash."""
    if value is None:
        return NONE
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{int(value):,}"


def metric(value: float | None) -> str:
    """Always four decimals, so that columns of metrics align."""
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


def cut(row: str, longest: int = 160) -> str:
    return row if len(row) <= longest else row[: longest - 1] + "…"


def reason(name: str) -> str:
    return name.replace("_", " ")


def difference(entry: dict[str, Any], role: str, samples: int, base: float | None) -> str:
    """One comparison of `metrics.json` in a sentence; `role` says what the other model is, `base` is its own NDCG."""
    found = entry["metrics"]["ndcg"]
    left, right, what = model(entry["model"]), model(entry["against"]), f"NDCG@{entry['k']}"
    if found["mean"] is None:
        return f"{left} and {right} could not be compared: no user has held-out items."
    relative = f", {signed(found['mean'] / base, '.1%')}" if base else ""
    interval = f"{what} {signed(found['mean'])}{relative}, interval {signed(found['low'])} to {signed(found['high'])}"
    if found["low"] <= 0 <= found["high"]:
        return f"{left} and {right}, {role}, cannot be told apart ({interval})."
    ahead = round(found["share_above"] * samples)
    verb, times = ("beats", ahead) if found["mean"] > 0 else ("falls behind", samples - ahead)
    return f"{left} {verb} {right}, {role}, in {times:,} of {samples:,} resamples ({interval})."


def signed(value: float, form: str = ".4f") -> str:
    """+0.0123 or −0.0123, with a minus as wide as the plus."""
    return format(value, "+" + form).replace("-", "−")
