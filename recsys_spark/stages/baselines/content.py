"""Items alike in title, text and categories, over Spark: the cosine of their TF-IDF vectors, exact. It knows items that nobody has chosen.

Spark counts the terms; what follows is the product of item_knn.py with terms in the place of users and weights: a task adds up, over an
item's terms in ascending order, their rows of the memory-mapped pairs in one array of I sums, keeps the item's neighbours and clears the sums it
touched. So the table is the same, bit for bit, for any number of blocks and tasks. The work is the sum over terms of their number of items
squared, which is why terms that many items share are left out; they tell little.

Shapes:  I items counting the padding item 0 · V terms · J items of a chunk · K neighbours of an item at most
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import CATEGORIES, ITEM_IDX, TEXT, TITLE, USER_IDX, WEIGHT
from recsys_spark.jit import compiled
from recsys_spark.models.item_knn import ContentModel
from recsys_spark.models.largest import ROOM, ascending, largest
from recsys_spark.spark.dense_ids import with_dense_index
from recsys_spark.stages.baselines.blocks import ITEMS, USERS, Pairs, blocks_for, write_pairs
from recsys_spark.stages.baselines.neighbour_table import Chunk, make_table, room_for
from recsys_spark.stages.baselines.rows import row_of, weights_of

log = logging.getLogger(__name__)

TERMS = USERS
"""The side of the pairs where terms stand."""
FEWEST = 2
"""Items a term must be found in: what one item alone has is shared with none."""
TERM, _TIMES, _FOUND = "term", "times", "found"
_WORD = r"([\p{L}\p{M}\p{N}]+)"


def fit(
    items: DataFrame, folder: Path, *, n_items: int, neighbours: int, max_share: float, tasks: int
) -> tuple[ContentModel, dict[str, int]]:
    """The model of the table `items`: of each item the `neighbours` most similar others, ties by item; and the counts of items with terms, of
    terms, of those left out because they are in fewer than FEWEST items or in more than `max_share` of those with terms, and of neighbours.

    With n items that have terms, n_t of them with term t, which item i has f times,

        weight(i, t) = (1 + ln f) (1 + ln((1 + n) / (1 + n_t)))

    (sublinear term frequency, smoothed inverse document frequency, as scikit-learn's TfidfVectorizer has them); the similarity is the
    cosine of the items' weights over the terms that are not left out. `folder` takes blocks and arrays while the fit runs; `tasks` is
    how many blocks there are at most.
    """
    spark = items.sparkSession
    counted = count_terms(items).persist()
    n = counted.select(ITEM_IDX).distinct().count()
    found = counted.groupBy(TERM).agg(F.count(F.lit(1)).alias(_FOUND)).persist()
    counts, total = _sizes(found, n, max_share)
    n_terms = counts["content_terms"]
    kept = found.where(_worth_keeping(n, max_share)).select(TERM)
    numbered = with_dense_index(kept, [TERM], USER_IDX, 0, at_most=n_terms)
    weighted = counted.join(numbered, TERM).withColumn(WEIGHT, (1 + F.log(_TIMES)).cast("float"))
    blocks = blocks_for(total, cores=spark.sparkContext.defaultParallelism, most=tasks)
    pairs = write_pairs(weighted, folder / "pairs", blocks=blocks, n_users=n_terms, n_items=n_items)
    spark.catalog.clearCache()
    compare = partial(compare_items, pairs, n, neighbours)
    table = make_table(spark.sparkContext, pairs, ITEMS, folder / "table", compare)
    counts = {"content_items": n, **counts, "content_neighbours": len(table["neighbours"])}
    log.info("content: %s", ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return ContentModel(n_items, {}, table), counts


def count_terms(items: DataFrame) -> DataFrame:
    """(item_idx, term, times), one row for each term of each item: words of title and text in lower case, and each category as a whole."""
    words = F.regexp_extract_all(F.lower(F.concat_ws(" ", TITLE, TEXT)), F.lit(_WORD), F.lit(1))
    # no word has the sign between, so a category is never taken for one
    whole = F.array_distinct(F.transform(CATEGORIES, lambda name: F.concat(F.lit("category="), F.lower(name))))
    terms = items.select(ITEM_IDX, F.explode(F.concat(words, whole)).alias(TERM))
    return terms.groupBy(ITEM_IDX, TERM).agg(F.count(F.lit(1)).alias(_TIMES))


def _worth_keeping(n: int, max_share: float) -> Column:
    return (F.col(_FOUND) >= FEWEST) & (F.col(_FOUND) <= max_share * n)


def _sizes(found: DataFrame, n: int, max_share: float) -> tuple[dict[str, int], int]:
    """Counts of terms kept and left out, and how many (term, item) pairs the kept ones have."""
    rare, kept = F.col(_FOUND) < FEWEST, _worth_keeping(n, max_share)
    row = found.agg(
        F.count_if(kept).alias("content_terms"),
        F.count_if(rare).alias("content_terms_rare"),
        F.count_if(~rare & ~kept).alias("content_terms_common"),
        F.sum(F.when(kept, F.col(_FOUND))).alias("pairs"),
    ).first()
    counts = row.asDict()
    total = counts.pop("pairs") or 0
    return counts, total


class _Vectors(NamedTuple):
    """`squares` float64 [V], 1 + ln((1 + n) / (1 + n_t)) squared; `norms` float64 [I], 1 for an item without terms."""

    squares: np.ndarray
    norms: np.ndarray


class _Scratch(NamedTuple):
    """A task's arrays: sums with every other item (zero between items), who is touched and how alike, the keys of `largest`; the output [J, K],
    filled without gaps."""

    sums: np.ndarray
    touched: np.ndarray
    values: np.ndarray
    best: np.ndarray
    spare: np.ndarray
    neighbours: np.ndarray
    similarities: np.ndarray


def compare_items(pairs: Pairs, documents: int, neighbours: int, start: int, stop: int) -> Iterator[Chunk]:
    """One task: the neighbours of the items start:stop. `pairs` are terms, items and 1 + ln(times); `documents` is the n of `fit`."""
    sides = pairs.side(ITEMS), pairs.side(TERMS)  # the loops hold addresses in their maps
    squares = (1 + np.log((1 + documents) / (1.0 + pairs.degrees(TERMS)))) ** 2
    norms = np.ones(pairs.rows[ITEMS])
    _measure(sides[0].starts, squares, norms)
    n_items, (height, k) = len(norms), room_for(len(norms), neighbours)
    scratch = _Scratch(
        np.zeros(n_items),
        np.empty(n_items + 1, np.int32),
        np.empty(n_items, np.float32),
        np.empty(ROOM * k, np.uint64),
        np.empty(k, np.int32),
        np.empty((height, k), np.int32),
        np.empty((height, k), np.float32),
    )
    lengths = np.empty(height, np.int32)
    for lo in range(start, stop, height):
        n = min(height, stop - lo)
        found = _compare(sides[0].starts, sides[1].starts, lo, lengths[:n], _Vectors(squares, norms), scratch)
        yield lengths[:n], scratch.neighbours.reshape(-1)[:found], scratch.similarities.reshape(-1)[:found]


@compiled
def _measure(by_item: np.ndarray, squares: np.ndarray, norms: np.ndarray) -> None:
    for item in range(len(norms)):
        terms, weights = row_of(by_item, item), weights_of(by_item, item)
        total = 0.0
        for at in range(len(terms)):
            total += squares[terms[at]] * np.float64(weights[at]) ** 2
        if total > 0:
            norms[item] = np.sqrt(total)


@compiled
def _compare(
    by_item: np.ndarray,
    by_term: np.ndarray,
    lo: int,
    lengths: np.ndarray,
    vectors: _Vectors,
    scratch: _Scratch,
) -> int:
    """The neighbours of the items from `lo` on into `lengths` [J] and the scratch's output; returns how many they are."""
    sums, touched, values = scratch.sums, scratch.touched, scratch.values
    ids, similarities = scratch.neighbours.reshape(-1), scratch.similarities.reshape(-1)
    total = 0
    for row in range(len(lengths)):
        j = lo + row
        terms, weights = row_of(by_item, j), weights_of(by_item, j)
        n = 0
        for t in range(len(terms)):
            weight = vectors.squares[terms[t]] * weights[t]
            others, theirs = row_of(by_term, terms[t]), weights_of(by_term, terms[t])
            for at in range(len(others)):
                before = sums[others[at]]
                touched[n] = others[at]  # stays there when it is new
                n += before == 0
                sums[others[at]] = before + weight * theirs[at]
        sums[j] = 0
        for at in range(n):
            i = touched[at]
            sums[i] /= vectors.norms[j] * vectors.norms[i]
            values[at] = sums[i]
        found = largest(touched, values, n, len(scratch.spare), scratch.best)
        chosen = ids[total : total + found]
        ascending(scratch.best, found, len(sums), chosen, scratch.spare)
        for at in range(found):
            similarities[total + at] = sums[chosen[at]]
        for at in range(n):
            sums[touched[at]] = 0
        lengths[row] = found
        total += found
    return total
