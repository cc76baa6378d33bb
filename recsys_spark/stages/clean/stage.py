"""The clean stage: raw log in; interactions, quarantine, users and items out, and the dense ids carried on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import (
    CATEGORIES,
    DETAIL,
    EVENT_TS,
    ITEM_ID,
    ITEM_IDX,
    REASON,
    TEXT,
    TITLE,
    USER_ID,
    WITHDRAWN,
)
from recsys_spark.errors import AllQuarantined, EmptyLog
from recsys_spark.parallel import run_parallel
from recsys_spark.pipeline.context import Context
from recsys_spark.spark.input_files import RawFile, find, format_of, identity
from recsys_spark.stages.clean import counts, indexing, read
from recsys_spark.stages.clean.checkpointed import pinned
from recsys_spark.stages.clean.content import (
    Content,
    check_withdrawn,
    items_table,
    lacking_in_items,
    lacking_in_users,
    one_row_an_id,
    users_table,
)
from recsys_spark.stages.clean.dedup import mark_duplicates
from recsys_spark.stages.clean.parse import NUMBERS, raw, typed
from recsys_spark.stages.clean.passing import counting
from recsys_spark.stages.clean.quarantine import Tally, check_rows, counted, none_left, quarantined, tallied
from recsys_spark.stages.clean.read import Wanted
from recsys_spark.stages.clean.returns import mark_returns
from recsys_spark.stages.clean.rules import KNOWN, Rule, judged, row_rules
from recsys_spark.stages.clean.spark_errors import translated
from recsys_spark.stages.clean.user_item_rules import Limits, interactions, judge
from recsys_spark.storage import tables
from recsys_spark.storage.manifest import run_stage

log = logging.getLogger(__name__)

NAME = "clean"
PASSES = ()
"""The stage runs once, before both passes."""
SCRATCH = ".rows"

Files = Mapping[str, list[RawFile]]


def run(context: Context, pass_name: None = None) -> None:
    """Clean the log of the night, unless the same files were cleaned with the same settings before."""
    files = _files(context)
    run_stage(
        context.layout,
        NAME,
        None,
        inputs=_identities(files),
        settings={
            "clean": context.config.clean.model_dump(mode="json"),
            "cutoff": context.cutoff.isoformat(),
        },
        work=lambda folder: _work(context, files, folder),
        force=context.force,
    )


def inputs(context: Context) -> dict[str, str]:
    """The ids of the raw files, by which the stage knows whether they have changed."""
    return _identities(_files(context))


def _files(context: Context) -> Files:
    paths = context.config.paths
    named = {"events": paths.events, "items": paths.items, "users": paths.users}
    return {name: find(path, f"paths.{name}", lambda: context.spark) for name, path in named.items() if path}


def _identities(files: Files) -> dict[str, str]:
    return {name: identity(found) for name, found in files.items()}


def _work(context: Context, files: Files, folder: Path) -> dict[str, Any]:
    spark, scratch = context.spark, folder / SCRATCH
    try:
        with translated():
            return _clean(context, files, folder, scratch)
    finally:
        spark.catalog.clearCache()
        shutil.rmtree(scratch, ignore_errors=True)


def _clean(context: Context, files: Files, folder: Path, scratch: Path) -> dict[str, Any]:
    items, users = run_parallel(lambda: _items_file(context, files), lambda: _users_file(context, files))
    rows, seen = _rows(context, files, items, scratch)
    log.info("clean: %s rows read; %s", f"{seen.rows:,}", counted(seen.by_reason) or "all of them well-formed")
    _check_log(context, files, rows, seen)

    events, n_users = pinned(_events(rows, users, USER_ID))
    (user_index, user_counts), (item_index, item_counts) = run_parallel(
        lambda: _index(context, "user", events, n_users),
        lambda: _index(context, "item", *pinned(_events(rows, items, ITEM_ID))),
    )
    written, (user_table, user_gaps) = run_parallel(
        lambda: _write_log(context, rows, seen, events, user_index, item_index, folder),
        lambda: _write_users(context, user_index, users, events, folder),
    )
    item_table, item_gaps = _write_items(context, item_index, items, folder)
    return {
        **written,
        **item_table,
        **user_table,
        **user_counts,
        **item_counts,
        # values that are not there: in the log as it was read, and in the tables items and users, for the mapped columns
        "missing": {
            **{f"events.{name}": seen.rows - n for name, n in seen.values.items()},
            **item_gaps,
            **user_gaps,
        },
        "content_faults": {name: file.faults for name, file in (("items", items), ("users", users)) if file},
    }


def _rows(context: Context, files: Files, items: Content | None, scratch: Path) -> tuple[DataFrame, Tally]:
    """The log with typed columns, each row with the reason of the first row rule it breaks; and a look at all of it.

    It is used half a dozen times, so it is put into `scratch`: that takes less time and memory than Spark's cache, and every plan starts anew.
    """
    clean = context.config.clean
    time_kind = "time" if clean.time_unit == "iso" else "number"
    kinds = {USER_ID: "id", ITEM_ID: "id", EVENT_TS: time_kind, **dict.fromkeys(NUMBERS, "number")}
    names = _mapped(context)
    wanted = {
        raw(name): Wanted(source, f"clean.columns.{name}", kinds.get(name, "text")) for name, source in names.items()
    }
    lines = read.read(context.spark, files["events"], format_of(files["events"], clean.format, "paths.events"), wanted)
    rows = typed(lines.drop(read.BLOCK), time_unit=clean.time_unit, default_event_type=clean.default_event_type)
    if clean.require_known_items and items:
        known = items.frame.select(ITEM_ID, F.lit(True).alias(KNOWN))
        rows = rows.join(known, ITEM_ID, "left").withColumn(KNOWN, F.coalesce(KNOWN, F.lit(False)))
    rules = _rules(context)
    rows, tally = tallied(judged(rows, rules), [rule.reason for rule in rules])
    rows.write.parquet(str(scratch))
    return context.spark.read.schema(rows.schema).parquet(str(scratch)), tally()


def _rules(context: Context) -> list[Rule]:
    clean = context.config.clean
    return row_rules(
        _mapped(context),
        earliest=clean.earliest,
        cutoff=context.cutoff,
        event_types=clean.event_weights,
        rating_range=clean.rating_range,
        quantity_range=clean.quantity_range,
        price_range=clean.price_range,
        returns=clean.returns,
        require_known_items=clean.require_known_items,
    )


def _mapped(context: Context) -> dict[str, str]:
    """Names of the log's columns by the house's names."""
    return {name: source for name, source in context.config.clean.columns.model_dump().items() if source is not None}


def _check_log(context: Context, files: Files, rows: DataFrame, seen: Tally) -> None:
    """Raise unless there is something to work with."""
    path = context.config.paths.events
    if not seen.rows:
        raise EmptyLog(
            f"paths.events: {path} holds no rows ({len(files['events'])} files); nothing can be recommended from it"
        )
    if format_of(files["events"], context.config.clean.format, "paths.events") == "jsonl":
        _check_keys(context, files["events"], seen)
    if sum(seen.by_reason.values()) == seen.rows:
        worst = max(seen.by_reason, key=lambda reason: (seen.by_reason[reason], reason))
        example = rows.where(F.col(REASON) == worst).select(F.min(DETAIL)).first()
        raise AllQuarantined(
            none_left(path, seen.rows, seen.by_reason) + f"; an example of {worst}: {example[0] if example else None}"
        )


def _check_keys(context: Context, files: list[RawFile], seen: Tally) -> None:
    """A key that no JSON line has is a fault of the mapping; only the whole log can tell, as a line may leave out what it lacks."""
    for name, source in _mapped(context).items():
        if seen.values[name] == 0:
            first = next(file for file in files if file.size > 0)
            have = sorted(read.keys_of(context.spark, first))
            if have and source not in have:
                raise read.missing(first.path, Wanted(source, f"clean.columns.{name}"), have)


def _events(rows: DataFrame, file: Content | None, key: str) -> DataFrame:
    """(`key`, n): how many well-formed rows each external id has, 0 for those of the content file alone."""
    ids = rows.where(F.col(REASON).isNull()).select(key, F.lit(1).alias("n"))
    if file:
        ids = ids.unionAll(file.frame.select(key, F.lit(0)))
    return ids.groupBy(key).agg(F.sum("n").alias("n"))


def _index(context: Context, word: str, ids: DataFrame, n_ids: int) -> tuple[DataFrame, dict[str, int]]:
    folder = context.layout.user_index if word == "user" else context.layout.item_index
    n_new, size = indexing.extend(context.spark, folder, f"{word}_index", ids, context.layout.run_id, at_most=n_ids)
    return indexing.read_index(context.spark, folder, f"{word}_index"), {
        f"new_{word}s": n_new,
        f"n_{word}s": size,
    }


def _write_log(
    context: Context,
    rows: DataFrame,
    seen: Tally,
    events: DataFrame,
    user_index: DataFrame,
    item_index: DataFrame,
    folder: Path,
) -> dict[str, Any]:
    """The tables interactions and quarantine, and the law that together they hold every row."""
    spark, clean = context.spark, context.config.clean
    marked = mark_duplicates(rows)
    marked = mark_returns(marked) if seen.returns else marked
    limits = Limits(clean.max_events_per_user_day, clean.max_events_per_user, clean.k_core_users, clean.k_core_items)
    verdicts = judge(marked, user_index, item_index, events, limits)
    kept = tables.write(interactions(verdicts, clean.event_weights), folder / "interactions", "interactions")
    tables.write(quarantined(marked).unionAll(quarantined(verdicts)), folder / "quarantine", "quarantine")
    by_reason, times = counts.of_log(
        tables.read(spark, folder / "interactions", "interactions"),
        tables.read(spark, folder / "quarantine", "quarantine"),
    )
    check_rows(seen.rows, kept, by_reason)
    if not kept:
        raise AllQuarantined(none_left(context.config.paths.events, seen.rows, by_reason))
    total = {"rows_in": seen.rows, "interactions": kept, "quarantined": sum(by_reason.values())}
    return {**total, "quarantined_by_reason": by_reason, **times}


def _items_file(context: Context, files: Files) -> Content | None:
    if "items" not in files:
        return None
    clean, names = context.config.clean, context.config.clean.item_columns
    mapped = {ITEM_ID: ("item_id", "id"), TITLE: ("title", "text"), CATEGORIES: ("category", "list")}
    mapped |= {TEXT: ("text", "text"), WITHDRAWN: ("withdrawn", "text")}
    wanted = {
        name: Wanted(source, f"clean.item_columns.{key}", kind)
        for name, (key, kind) in mapped.items()
        if (source := getattr(names, key)) is not None
    }
    file_format = format_of(files["items"], clean.format, "paths.items")
    content = one_row_an_id(
        read.read(context.spark, files["items"], file_format, wanted, multi_line=True), ITEM_ID, "items"
    )
    if names.withdrawn is not None:
        check_withdrawn(content.frame, names.withdrawn)
    return content


def _users_file(context: Context, files: Files) -> Content | None:
    if "users" not in files:
        return None
    clean = context.config.clean
    wanted = {USER_ID: Wanted(clean.user_columns.user_id, "clean.user_columns.user_id", "id")}
    wanted |= {column: Wanted(name, "clean.user_columns.attributes") for name, column in _attributes(context).items()}
    file_format = format_of(files["users"], clean.format, "paths.users")
    return one_row_an_id(
        read.read(context.spark, files["users"], file_format, wanted, multi_line=True), USER_ID, "users"
    )


def _attributes(context: Context) -> dict[str, str]:
    """Column of each attribute in the frame of the users file: numbered, since an attribute may be called anything."""
    names = dict.fromkeys(context.config.clean.user_columns.attributes) if context.config.paths.users else {}
    return {name: f"attribute_{i}" for i, name in enumerate(names)}


def _write_items(
    context: Context, index: DataFrame, items: Content | None, folder: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """The table `items`; returns its counts, and how many items lack what the items file should give."""
    names = context.config.clean.item_columns
    log_items = tables.read(context.spark, folder / "interactions", "interactions").select(ITEM_IDX).distinct()
    table = items_table(
        index, items.frame if items else None, log_items, separator=context.config.clean.category_separator
    )
    mapped = ((TITLE, names.title), (CATEGORIES, names.category), (TEXT, names.text))
    columns = [name for name, source in mapped if source is not None] if items else []
    n_items, gaps = _write_counting(table, folder, "items", lacking_in_items(columns))
    orphans = {"orphan_items": n_items - items.rows} if items else {}
    return {"items": n_items, **orphans}, gaps


def _write_users(
    context: Context, index: DataFrame, users: Content | None, events: DataFrame, folder: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """The table `users`; returns its counts, and how many users lack each attribute."""
    attributes = _attributes(context)
    table = users_table(
        index,
        users.frame if users else None,
        events.select(USER_ID),
        attributes=attributes,
        segment_by=context.config.clean.segment_by,
    )
    n_users, gaps = _write_counting(table, folder, "users", lacking_in_users(attributes))
    return {"users": n_users}, gaps


def _write_counting(
    table: DataFrame, folder: Path, name: str, counts: Mapping[str, Column]
) -> tuple[int, dict[str, int]]:
    watched, found = counting(table, counts)
    n = tables.write(watched, folder / name, name)
    return n, found()
