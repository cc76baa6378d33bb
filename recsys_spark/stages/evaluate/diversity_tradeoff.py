"""What diversity and caps cost: the lists of a sample of test users, spread out more and less, against what was hidden from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from recsys_spark import columns as c
from recsys_spark.metrics import beyond_accuracy
from recsys_spark.stages.evaluate import per_user

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.stages.evaluate.backtest import Catalogue

_NO_CAP = "none"


def measure(
    lists: DataFrame, positives: DataFrame, histories: DataFrame, catalogue: Catalogue, k: int
) -> list[dict[str, Any]]:
    """One entry a lambda, falling, and then one a cap, falling from none: lambda or cap (None for none), users, and of lists cut at k mean ndcg,
    mean diversity (None without categories) and coverage.

    `lists` is the table candidates with lambda, or the cap after "cap ", in the place of the model. Only users who have lists are measured, all on all
    of these.
    """
    names = sorted((row[0] for row in lists.select(c.MODEL).distinct().collect()), key=_place)
    if not names:
        return []
    asked = positives.join(lists, c.USER_IDX, "left_semi")
    rows = per_user.measure(
        lists, asked, histories, models=names, cutoffs=[k], gate_k=k, categories=catalogue.categories
    )
    means = {row[c.MODEL]: row for row in per_user.means(rows)}
    shown = per_user.shown_counts(lists, k)
    return [
        {
            **_step(name),
            "users": means[name]["users"],
            "ndcg": means[name]["ndcg"],
            "diversity": means[name][per_user.DIVERSITY],
            "coverage": beyond_accuracy.coverage(catalogue.counts(shown, name)),
        }
        for name in names
    ]


def _step(name: str) -> dict[str, Any]:
    if not name.startswith(c.CAP):
        return {c.LAMBDA: float(name)}
    cap = name.removeprefix(f"{c.CAP} ")
    return {c.CAP: None if cap == _NO_CAP else int(cap)}


def _place(name: str) -> tuple[bool, float]:
    step = _step(name)
    value = step.get(c.LAMBDA, step.get(c.CAP))
    return c.CAP in step, -math.inf if value is None else -value
