"""Content-based neighbours over Spark: the cosine of the TF-IDF vectors of title, text and categories, exact.

It also covers items that nobody has chosen. Spark counts the terms. The comparison is that of item kNN with terms in
the place of users (neighbour_table.py). Its work is the sum over terms of their squared number of items, so terms that
many items share are left out. They say little.

Shapes:  I items, counting the padding item 0
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import CATEGORIES, ITEM_IDX, TEXT, TITLE, USER_IDX, WEIGHT
from recsys_spark.jit import compiled
from recsys_spark.models.item_knn import ContentModel
from recsys_spark.spark.dense_ids import with_dense_index
from recsys_spark.stages.baselines.fit_context import FitContext
from recsys_spark.stages.baselines.neighbour_table import Chunk, Formula, make_table, nearest_items
from recsys_spark.stages.baselines.pairs import ITEMS, USERS, Pairs, parts_for, write_pairs

log = logging.getLogger(__name__)

TERMS = USERS
"""The side of the pairs that holds terms."""
MIN_ITEMS = 2
"""Minimum number of items with a term. A term of one item is shared with no other."""
TERM, _TIMES, _ITEMS = "term", "times", "items"
_WORD = r"([\p{L}\p{M}\p{N}]+)"


def fit(context: FitContext, scratch: Path) -> tuple[ContentModel, dict[str, Any]]:
    """Fit the model of the registry entry `content`."""
    s = context.settings
    sizes: dict[str, Any] = {"n_items": context.n_items, "neighbours": s.neighbours, "tasks": context.tasks}
    return fit_items(context.items, scratch, max_share=s.max_term_share, **sizes)


def fit_items(
    items: DataFrame, folder: Path, *, n_items: int, neighbours: int, max_share: float, tasks: int
) -> tuple[ContentModel, dict[str, int]]:
    """Return the model of the `neighbours` most similar others of each item of the table `items`, and its counts.

    With n items that have terms, n_t of them with term t, and f times the term t in item i,

        weight(i, t) = (1 + ln f) (1 + ln((1 + n) / (1 + n_t)))

    (sublinear term frequency and smoothed inverse document frequency, as in scikit-learn's TfidfVectorizer). Similarity
    is the cosine of these weights over terms in at least MIN_ITEMS items and in at most `max_share` of those with
    terms. `folder` takes the pairs and the table, `tasks` is the maximum number of tasks.
    """
    spark = items.sparkSession
    counted = count_terms(items).persist()
    n = counted.select(ITEM_IDX).distinct().count()
    terms = counted.groupBy(TERM).agg(F.count(F.lit(1)).alias(_ITEMS)).persist()
    counts, total = _sizes(terms, n, max_share)
    n_terms = counts["content_terms"]
    kept = terms.where(_is_kept(n, max_share)).select(TERM)
    numbered = with_dense_index(kept, [TERM], USER_IDX, 0, at_most=n_terms)
    weighted = counted.join(numbered, TERM).withColumn(WEIGHT, (1 + F.log(_TIMES)).cast("float"))
    parts = parts_for(total, cores=spark.sparkContext.defaultParallelism, maximum=tasks)
    pairs = write_pairs(weighted, folder / "pairs", parts=parts, n_users=n_terms, n_items=n_items)
    spark.catalog.clearCache()
    table = make_table(spark.sparkContext, pairs, folder / "table", partial(compare_items, pairs, n, neighbours))
    counts = {"content_items": n, **counts, "content_neighbours": len(table["neighbours"])}
    log.info("content: %s", ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return ContentModel(n_items, {}, table), counts


def count_terms(items: DataFrame) -> DataFrame:
    """Return (item_idx, term, times), one row for each term of each item.

    Terms are the words of title and text in lower case, and each category as a whole.
    """
    words = F.regexp_extract_all(F.lower(F.concat_ws(" ", TITLE, TEXT)), F.lit(_WORD), F.lit(1))
    # no word has an equals sign, so no category equals a word
    whole = F.array_distinct(F.transform(CATEGORIES, lambda name: F.concat(F.lit("category="), F.lower(name))))
    terms = items.select(ITEM_IDX, F.explode(F.concat(words, whole)).alias(TERM))
    return terms.groupBy(ITEM_IDX, TERM).agg(F.count(F.lit(1)).alias(_TIMES))


def _is_kept(n: int, max_share: float) -> Column:
    return (F.col(_ITEMS) >= MIN_ITEMS) & (F.col(_ITEMS) <= max_share * n)


def _sizes(terms: DataFrame, n: int, max_share: float) -> tuple[dict[str, int], int]:
    """Return the counts of terms kept and left out, and the number of (term, item) pairs of those kept."""
    rare, kept = F.col(_ITEMS) < MIN_ITEMS, _is_kept(n, max_share)
    row = terms.agg(
        F.count_if(kept).alias("content_terms"),
        F.count_if(rare).alias("content_terms_rare"),
        F.count_if(~rare & ~kept).alias("content_terms_common"),
        F.sum(F.when(kept, F.col(_ITEMS))).alias("pairs"),
    ).first()
    counts = row.asDict()
    total = counts.pop("pairs") or 0
    return counts, total


def compare_items(pairs: Pairs, documents: int, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """One task: yield the neighbours of the items start:stop.

    `pairs` are terms, items and 1 + ln f. `documents` is the n of `fit_items`.
    """
    n_items = pairs.rows[ITEMS]
    squares = (1 + np.log((1 + documents) / (1 + np.arange(n_items + 1.0)))) ** 2
    inverse_norms = np.ones(n_items)
    _invert_norms(pairs.csr(ITEMS), pairs.csr(TERMS).indptr, squares, inverse_norms)
    formula = Formula(squares, inverse_norms, inverse_norms, weighted=True)
    return nearest_items(pairs, formula, neighbours, start, stop)


@compiled
def _invert_norms(by_item, term_indptr, squares, inverse_norms):  # type: ignore[no-untyped-def]
    """Set inverse_norms [I] of the items with terms."""
    for item in range(len(inverse_norms)):
        total = 0.0
        for at in range(by_item.indptr[item], by_item.indptr[item + 1]):
            term = by_item.indices[at]
            degree = term_indptr[term + 1] - term_indptr[term]
            total += squares[degree] * np.float64(by_item.weights[at]) ** 2
        if total > 0:
            inverse_norms[item] = 1 / np.sqrt(total)
