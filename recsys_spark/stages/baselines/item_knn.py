"""Item-based k-nearest neighbours over Spark, exact (neighbour_table.py makes the comparison).

Shapes:  I items, counting the padding item 0 · N neighbours kept
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import SparkContext

from recsys_spark.jit import compiled
from recsys_spark.models.item_knn import ItemKnnModel
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.neighbour_table import Chunk, Formula, make_table, nearest_items
from recsys_spark.stages.baselines.pairs import ITEMS, Pairs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemSimilarity:
    """The similarity of the history item j and the candidate i, with the n users U they have in common and degrees d:

        s[j, i] = n / (n + shrinkage)
                  * (sum over U of d_u^(-2 user_power) * d_j^-source_power * d_i^-target_power)^similarity_power

    Plain cosine has user_power 0, source and target power 0.5, similarity_power 1 and no shrinkage (asymmetric cosine
    and powers: Aiolli, RecSys 2013). With norm_power, the similarities kept are divided by

        (sum over j of s[j, i]^2)^(norm_power / 2)

    like the weighted mean of Sarwar et al. (WWW 2001), which divides by the sum of a candidate's similarities. It ranks
    candidates lower that resemble many items a little.
    """

    user_power: float
    source_power: float
    target_power: float
    similarity_power: float
    shrinkage: float
    norm_power: float = 0.0


def fit(context: FitContext, scratch: Path) -> tuple[ItemKnnModel, dict[str, Any]]:
    """Fit the model of the registry entry `item_knn`."""
    settings = context.settings.model_dump()
    neighbours = settings.pop("neighbours")
    similarity = ItemSimilarity(**settings)
    model = fit_pairs(context.spark, context.pairs, scratch, neighbours=neighbours, similarity=similarity)
    return model, {"neighbours": len(model.arrays["neighbours"])}


def fit_pairs(
    spark: SparkContext, pairs: Pairs, folder: Path, *, neighbours: int, similarity: ItemSimilarity
) -> ItemKnnModel:
    """Return the model of the `neighbours` most similar others of each item. `folder` takes the table."""
    table = make_table(spark, pairs, folder, partial(compare_items, pairs, similarity, neighbours))
    if similarity.norm_power > 0:
        values = np.load(folder / "similarities.npy", mmap_mode="r+")
        _divide_by_norms(table["neighbours"], values, np.zeros(pairs.rows[ITEMS]), similarity.norm_power)
        values.flush()
    log.info("item_knn: %d neighbours of %d items", len(table["neighbours"]), pairs.active[ITEMS])
    return ItemKnnModel(pairs.rows[ITEMS], {}, table)


def compare_items(pairs: Pairs, similarity: ItemSimilarity, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """One task: yield the neighbours of the items start:stop."""
    degrees = np.maximum(pairs.degrees(ITEMS), 1).astype(np.float64)
    formula = Formula(
        user_weights(len(degrees), similarity.user_power),
        degrees**-similarity.source_power,
        degrees**-similarity.target_power,
        float(similarity.similarity_power),
        float(similarity.shrinkage),
    )
    return nearest_items(pairs, formula, neighbours, start, stop)


def user_weights(n_items: int, user_power: float) -> np.ndarray:
    """Return float64 [n_items + 1], d^(-2 user_power) by a user's degree d. Above zero for any power."""
    by_degree = np.maximum(np.arange(n_items + 1.0), 1) ** (-2.0 * user_power)
    return np.maximum(by_degree, np.finfo(np.float64).tiny)


@compiled
def _divide_by_norms(candidates, values, norms, power):  # type: ignore[no-untyped-def]
    """Divide values [N] by the norm of the values of its candidate, to `power`. norms [I] is zero."""
    for at in range(len(values)):
        norms[candidates[at]] += np.float64(values[at]) ** 2
    for item in range(len(norms)):
        norms[item] = norms[item] ** (-0.5 * power) if norms[item] > 0 else 1.0
    for at in range(len(values)):
        values[at] *= norms[candidates[at]]
