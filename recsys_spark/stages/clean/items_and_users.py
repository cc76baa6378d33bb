"""Makes the tables `items` and `users` from the items file, the users file and the log.

Invalid rows of these files are dropped, counted and logged: unparsable lines, rows without an id, repeated ids. They
do not go to the quarantine, which accounts for the log only.
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
class ContentFile:
    """The valid rows of the items file or users file, one for each id, and their number.

    `faults` maps each fault to the number of rows that were dropped for it.
    """

    frame: DataFrame
    rows: int
    faults: dict[str, int]


def unique_rows(raw: DataFrame, key: str, name: str) -> ContentFile:
    """Return the first valid row of each id `key` of a frame that `read` returned. Runs one job.

    `name` names the input in log lines. Rows are ordered by file name, then as they are in the file.
    """
    rows = raw.withColumn(key, trimmed(F.col(key))).withColumn("__row", F.monotonically_increasing_id())
    # row ids increase within a block, so with the block they give the order in the file for any number of tasks
    number = F.row_number().over(Window.partitionBy(key, MALFORMED).orderBy(FILE, BLOCK, "__row"))
    fault = (
        F.when(F.col(MALFORMED).isNotNull(), F.lit("malformed_row"))
        .when(F.col(key).isNull(), F.lit("missing_id"))
        .when(number > 1, F.lit("duplicate_id"))
    )
    marked = rows.withColumn(_FAULT, fault).persist()
    example = F.min(F.concat_ws(": ", file_name(F.col(FILE)), F.coalesce(MALFORMED, key))).alias("example")
    groups = marked.groupBy(_FAULT).agg(F.count(F.lit(1)).alias("n"), example).collect()
    counts = {row[_FAULT]: row["n"] for row in groups}
    for row in groups:
        if row[_FAULT]:
            n = f"{row['n']:,}"
            log.warning("clean: %s: %s rows dropped (%s). Example: %s", name, n, row[_FAULT], row["example"])
    valid = marked.where(F.col(_FAULT).isNull()).drop(_FAULT, "__row", FILE, BLOCK, MALFORMED)
    return ContentFile(valid, counts.pop(None, 0), counts)


def boolean(text: Column) -> Column:
    """Return the boolean that a trimmed text spells, as a word or a number, or null when it spells none."""
    word, number = F.lower(text), text.try_cast("double")
    return F.when(word.isin(*_TRUE), True).when(word.isin(*_FALSE), False).otherwise(number != 0)


def check_withdrawn(content: DataFrame, source: str) -> None:
    """Raise `InputMismatch` for a value that is neither true nor false. `source` is the column's name in the file.

    A guess could recommend an item that must not be shown.
    """
    text = trimmed(F.col(WITHDRAWN))
    invalid = content.where(text.isNotNull() & boolean(text).isNull())
    row = invalid.select(F.min(F.struct(ITEM_ID, WITHDRAWN))).first()[0]
    if row:
        raise InputMismatch(
            f"paths.items: item {row[ITEM_ID]!r} has {row[WITHDRAWN]!r} in column {source!r} "
            "(clean.item_columns.withdrawn). Write true or false, 1 or 0, or leave it empty"
        )


def items_table(index: DataFrame, content: DataFrame | None, log_items: DataFrame, *, separator: str) -> DataFrame:
    """Return the table `items`: the items of the log and those of the items file.

    `log_items` are distinct item_idx. `content` has item_id, and text columns title, categories, text and withdrawn
    where the file has them.
    """
    if content is None:
        content = index.select(ITEM_ID).limit(0)
    details = content.select(
        ITEM_ID,
        _text(content, TITLE).alias(TITLE),
        _categories(_text(content, CATEGORIES), separator).alias(CATEGORIES),
        _text(content, TEXT).alias(TEXT),
        boolean(_text(content, WITHDRAWN)).alias(WITHDRAWN),
        F.lit(True).alias("__in_file"),
    )
    in_log = log_items.withColumn("__in_log", F.lit(True))
    items = index.join(details, ITEM_ID, "left").join(in_log, ITEM_IDX, "left")
    return items.where(F.col("__in_file") | F.col("__in_log")).withColumns(
        {
            CATEGORIES: F.coalesce(CATEGORIES, F.array().cast("array<string>")),
            WITHDRAWN: F.coalesce(WITHDRAWN, F.lit(False)),
        }
    )


def users_table(
    index: DataFrame,
    content: DataFrame | None,
    user_ids: DataFrame,
    *,
    attributes: Mapping[str, str],
    segment_by: list[str],
) -> DataFrame:
    """Return the table `users` for `user_ids` (distinct).

    `attributes` maps each attribute to its column in `content`. `segment_by` lists the attributes that make a segment.
    """
    users = index.join(user_ids, USER_ID, "left_semi")
    if content is not None:
        users = users.join(content, USER_ID, "left")
    pairs = [part for name, column in attributes.items() for part in (F.lit(name), trimmed(F.col(column)))]
    values = F.create_map(*pairs) if pairs else F.create_map().cast("map<string,string>")
    parts = [trimmed(F.col(attributes[name])) for name in segment_by]
    # concat is null when any part is null; concat_ws would skip the part
    segment = F.concat(*[c for part in parts for c in (F.lit("|"), part)][1:]) if parts else F.lit(None)
    return users.select(
        USER_IDX,
        USER_ID,
        segment.cast("string").alias(SEGMENT),
        F.map_filter(values, lambda _, value: value.isNotNull()).alias(ATTRIBUTES),
    )


def count_missing_item_values(columns: list[str]) -> dict[str, Column]:
    """Return aggregates of the table `items`, by their name in the manifest: items without a value in each column."""
    is_missing = {name: F.size(name) == 0 if name == CATEGORIES else F.col(name).isNull() for name in columns}
    return {f"items.{name}": F.count_if(condition) for name, condition in is_missing.items()}


def count_missing_user_values(attributes: Iterable[str]) -> dict[str, Column]:
    """Return aggregates of the table `users`, by their name in the manifest: users without each attribute."""
    return {f"users.{name}": F.count_if(F.try_element_at(ATTRIBUTES, F.lit(name)).isNull()) for name in attributes}


def _text(content: DataFrame, name: str) -> Column:
    return trimmed(F.col(name)) if name in content.columns else F.lit(None).cast("string")


def _categories(text: Column, separator: str) -> Column:
    """Return the categories in a JSON list of strings or a separated text, trimmed, in order and each once."""
    listed = F.when(text.startswith("["), F.from_json(text, "array<string>"))
    # \Q…\E makes the regular expression take the separator literally
    parts = F.coalesce(listed, F.split(text, "\\Q" + separator.replace("\\E", "\\E\\\\E\\Q") + "\\E"))
    return F.array_distinct(F.filter(F.transform(parts, trimmed), lambda part: part.isNotNull()))
