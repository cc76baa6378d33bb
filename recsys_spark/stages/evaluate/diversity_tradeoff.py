"""Measure the trade-off of diversification: lists of the same users under several settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.metrics import beyond_accuracy
from recsys_spark.stages.evaluate import per_user

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.stages.evaluate.backtest import Catalogue


def measure(
    lists: DataFrame, positives: DataFrame, histories: DataFrame, catalogue: Catalogue, k: int
) -> list[dict[str, Any]]:
    """Return one entry for each setting: `diversity` rising, then `max_per_category` falling from None (no cap).

    An entry also has `users`, and at cutoff `k` the mean `ndcg`, the mean `list_diversity` (None without categories)
    and the `coverage`. `lists` is the table candidates. Users without lists in it are left out.
    """
    # the two settings as one name, since per_user compares lists by name
    named = lists.withColumn(c.MODEL, F.to_json(F.struct(c.DIVERSITY, c.MAX_PER_CATEGORY)))
    settings = {row[0]: json.loads(row[0]) for row in named.select(c.MODEL).distinct().collect()}
    if not settings:
        return []
    names = sorted(settings, key=lambda name: _order(settings[name]))
    users = positives.join(lists, c.USER_IDX, "left_semi")
    options = {"models": names, "cutoffs": [k], "gate_k": k, "categories": catalogue.categories}
    means = {row[c.MODEL]: row for row in per_user.means(per_user.measure(named, users, histories, **options))}
    shown = per_user.shown_counts(named, k)
    return [
        {
            c.DIVERSITY: settings[name][c.DIVERSITY],
            c.MAX_PER_CATEGORY: settings[name].get(c.MAX_PER_CATEGORY),
            **{key: means[name][key] for key in ("users", "ndcg", per_user.LIST_DIVERSITY)},
            "coverage": beyond_accuracy.coverage(catalogue.counts(shown, name)),
        }
        for name in names
    ]


def _order(setting: dict[str, Any]) -> tuple[float, bool, int]:
    cap = setting.get(c.MAX_PER_CATEGORY)
    return setting[c.DIVERSITY], cap is not None, -(cap or 0)
