"""What is known of items and users beside the log: the tables `items` and `users`.

Faulty rows of these files (torn lines, no id, an id met before) are left out, counted and logged. They are no part of the quarantine, which
accounts for the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import (
    ATTRIBUTES,
    CATEGORIES,
    ITEM_ID,
    ITEM_IDX,
    SEGMENT,
    TEXT,
    TITLE,
    USER_ID,
    USER_IDX,
    WITHDRAWN,
)
from recsys_spark.errors import InputMismatch
from recsys_spark.stages.clean.parse import trimmed
from recsys_spark.stages.clean.read import BLOCK, FILE, MALFORMED, file_name

log = logging.getLogger(__name__)

_FAULT = "__fault"
_TRUE = ("true", "t", "yes", "y")
_FALSE = ("false", "f", "no", "n")


@dataclass(frozen=True)
class Content:
    """Rows of a file, one an id; `rows` of them; `faults` counts those left out by fault."""

    frame: DataFrame
    rows: int
    faults: dict[str, int]


def one_row_an_id(raw: DataFrame, key: str, what: str) -> Content:
    """The first sound row of each id `key` of a file read by `read`, in the order of the files. Runs one job."""
    rows = raw.withColumn(key, trimmed(F.col(key))).withColumn("__at", F.monotonically_increasing_id())
    # within a block of a file the ids of rows rise, so this is the order of the file, however it was cut into tasks
    number = F.row_number().over(Window.partitionBy(key, MALFORMED).orderBy(FILE, BLOCK, "__at"))
    fault = (
        F.when(F.col(MALFORMED).isNotNull(), F.lit("malformed_row"))
        .when(F.col(key).isNull(), F.lit("missing_id"))
        .when(number > 1, F.lit("duplicate_id"))
    )
    marked = rows.withColumn(_FAULT, fault).persist()
    example = F.min(F.concat_ws(": ", file_name(F.col(FILE)), F.coalesce(MALFORMED, key)))
    found = marked.groupBy(_FAULT).agg(F.count(F.lit(1)).alias("n"), example.alias("example")).collect()
    for row in found:
        if row[_FAULT]:
            log.warning(
                "clean: %s: %s rows left out, %s; one of them: %s",
                what,
                f"{row['n']:,}",
                row[_FAULT],
                row["example"],
            )
    counts = {row[_FAULT]: row["n"] for row in found}
    return Content(
        marked.where(F.col(_FAULT).isNull()).drop(_FAULT, "__at", FILE, BLOCK, MALFORMED),
        counts.pop(None, 0),
        counts,
    )


def truth(text: Column) -> Column:
    """true or false as people and programs write them, numbers among them; null when the text, which is trimmed, is neither."""
    word, number = F.lower(text), text.try_cast("double")
    return F.when(word.isin(*_TRUE), True).when(word.isin(*_FALSE), False).otherwise(number != 0)


def check_withdrawn(content: DataFrame, source: str) -> None:
    """`InputMismatch` for a value that is neither true nor false: a guess would show what must not be shown. `source` names the column."""
    text = trimmed(F.col(WITHDRAWN))
    doubtful = content.where(text.isNotNull() & truth(text).isNull())
    row = doubtful.select(F.min(F.struct(ITEM_ID, WITHDRAWN))).first()[0]
    if row:
        raise InputMismatch(
            f"paths.items: item {row[ITEM_ID]!r} has {row[WITHDRAWN]!r} in column {source!r}, which clean.item_columns.withdrawn names; "
            "write true or false, 1 or 0, or leave it empty"
        )


def items_table(index: DataFrame, content: DataFrame | None, in_log: DataFrame, *, separator: str) -> DataFrame:
    """The table `items`: those of `in_log` (item_idx, distinct) and those of `content` (item_id and text columns title, categories, text,
    withdrawn, as far as the file has them)."""
    if content is None:
        content = index.select(ITEM_ID).limit(0)
    known = content.select(
        ITEM_ID,
        _optional(content, TITLE).alias(TITLE),
        _categories(_optional(content, CATEGORIES), separator).alias(CATEGORIES),
        _optional(content, TEXT).alias(TEXT),
        truth(_optional(content, WITHDRAWN)).alias(WITHDRAWN),
        F.lit(True).alias("__in_file"),
    )
    every = index.join(known, ITEM_ID, "left").join(in_log.withColumn("__in_log", F.lit(True)), ITEM_IDX, "left")
    return every.where(F.col("__in_file") | F.col("__in_log")).withColumns(
        {
            CATEGORIES: F.coalesce(CATEGORIES, F.array().cast("array<string>")),
            WITHDRAWN: F.coalesce(WITHDRAWN, F.lit(False)),
        }
    )


def users_table(
    index: DataFrame,
    content: DataFrame | None,
    tonight: DataFrame,
    *,
    attributes: Mapping[str, str],
    segment_by: list[str],
) -> DataFrame:
    """The table `users`: those of `tonight` (user_id, distinct). `attributes` maps the name of each to its text column in `content`."""
    users = index.join(tonight, USER_ID, "left_semi")
    if content is not None:
        users = users.join(content, USER_ID, "left")
    # map() must not meet a name twice, and filters out what has no value
    pairs = [part for name, column in attributes.items() for part in (F.lit(name), trimmed(F.col(column)))]
    every = F.create_map(*pairs) if pairs else F.create_map().cast("map<string,string>")
    parts = [trimmed(F.col(attributes[name])) for name in segment_by]
    # concat, unlike concat_ws, is null as soon as one part is
    joined = F.concat(*[c for part in parts for c in (F.lit("|"), part)][1:]) if parts else F.lit(None)
    return users.select(
        USER_IDX,
        USER_ID,
        joined.cast("string").alias(SEGMENT),
        F.map_filter(every, lambda _, value: value.isNotNull()).alias(ATTRIBUTES),
    )


def lacking_in_items(columns: list[str]) -> dict[str, Column]:
    """Counts of the items of the table that lack each of `columns`, by their names in the manifest."""
    lacks = {name: F.size(name) == 0 if name == CATEGORIES else F.col(name).isNull() for name in columns}
    return {f"items.{name}": F.count_if(when) for name, when in lacks.items()}


def lacking_in_users(attributes: Iterable[str]) -> dict[str, Column]:
    """Counts of the users of the table that lack each attribute, by their names in the manifest."""
    return {f"users.{name}": F.count_if(F.try_element_at(ATTRIBUTES, F.lit(name)).isNull()) for name in attributes}


def _optional(content: DataFrame, name: str) -> Column:
    return trimmed(F.col(name)) if name in content.columns else F.lit(None).cast("string")


def _categories(text: Column, separator: str) -> Column:
    """A JSON list of texts, or text with separators, to categories: without blanks, each once, in their order."""
    listed = F.when(text.startswith("["), F.from_json(text, "array<string>"))
    # \Q…\E: the separator is no pattern
    parts = F.coalesce(listed, F.split(text, "\\Q" + separator.replace("\\E", "\\E\\\\E\\Q") + "\\E"))
    return F.array_distinct(F.filter(F.transform(parts, trimmed), lambda part: part.isNotNull()))
