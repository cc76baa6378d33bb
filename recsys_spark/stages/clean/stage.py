"""The clean stage: reads the raw log, the items file and the users file, and extends the indexes of dense ids.

It is the first stage and writes interactions, quarantine, users and items for all later stages.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import CATEGORIES, DETAIL, EVENT_TS, ITEM_ID, ITEM_IDX, REASON, USER_ID
from recsys_spark.errors import EmptyLog
from recsys_spark.parallel import run_parallel
from recsys_spark.pipeline.context import Context
from recsys_spark.spark.input_files import RawFile, find, format_of, identity
from recsys_spark.stages.clean import indexing, items_and_users, quarantine, read
from recsys_spark.stages.clean.checkpointed import checkpointed, observed
from recsys_spark.stages.clean.dedup import mark_duplicates
from recsys_spark.stages.clean.items_and_users import ContentFile
from recsys_spark.stages.clean.parse import NUMBERS, parse, raw
from recsys_spark.stages.clean.quarantine import LogCounts
from recsys_spark.stages.clean.read import ColumnSpec
from recsys_spark.stages.clean.returns import mark_returns
from recsys_spark.stages.clean.rules import KNOWN_ITEM, Rule, apply_rules, row_rules
from recsys_spark.stages.clean.spark_errors import translated_errors
from recsys_spark.stages.clean.user_item_rules import Limits, apply_user_item_rules, interactions_table
from recsys_spark.storage import tables
from recsys_spark.storage.manifest import run_stage

log = logging.getLogger(__name__)

NAME = "clean"
PASSES = ()
"""The stage runs once, before both passes."""
SCRATCH = ".rows"

Files = Mapping[str, list[RawFile]]


def run(context: Context, pass_name: None = None) -> None:
    """Clean the raw files, unless the same files were cleaned with the same settings before."""
    files = _files(context)
    run_stage(
        context.layout,
        NAME,
        None,
        inputs=_identities(files),
        settings={"clean": context.config.clean.model_dump(mode="json"), "cutoff": context.cutoff.isoformat()},
        work=lambda folder: _work(context, files, folder),
        force=context.force,
    )


def inputs(context: Context) -> dict[str, str]:
    """Return the ids of the raw files. They change when a file changes."""
    return _identities(_files(context))


def _files(context: Context) -> Files:
    paths = context.config.paths
    inputs = {"events": paths.events, "items": paths.items, "users": paths.users}
    return {name: find(path, f"paths.{name}", lambda: context.spark) for name, path in inputs.items() if path}


def _identities(files: Files) -> dict[str, str]:
    return {name: identity(of_input) for name, of_input in files.items()}


def _format(context: Context, files: Files, name: str) -> str:
    return format_of(files[name], context.config.clean.format, f"paths.{name}")


def _work(context: Context, files: Files, folder: Path) -> dict[str, Any]:
    spark, scratch = context.spark, folder / SCRATCH
    try:
        with translated_errors():
            return _clean(context, files, folder, scratch)
    finally:
        spark.catalog.clearCache()
        shutil.rmtree(scratch, ignore_errors=True)


def _clean(context: Context, files: Files, folder: Path, scratch: Path) -> dict[str, Any]:
    items, users = run_parallel(lambda: _items_file(context, files), lambda: _users_file(context, files))
    rows, log_counts = _read_log(context, files, items, scratch)
    invalid = quarantine.format_counts(log_counts.by_reason)
    log.info("clean: %s rows read, invalid rows: %s", f"{log_counts.rows:,}", invalid or "none")
    _check_log(context, files, rows, log_counts)

    user_events, n_users = checkpointed(_valid_events(rows, users, USER_ID))
    (user_index, user_counts), (item_index, item_counts) = run_parallel(
        lambda: _extend_index(context, "user", user_events, n_users),
        lambda: _extend_index(context, "item", *checkpointed(_valid_events(rows, items, ITEM_ID))),
    )
    written, (user_table, users_missing) = run_parallel(
        lambda: _write_log(context, rows, log_counts, user_events, user_index, item_index, folder),
        lambda: _write_users(context, user_index, users, user_events, folder),
    )
    item_table, items_missing = _write_items(context, item_index, items, folder)
    return {
        **written,
        **item_table,
        **user_table,
        **user_counts,
        **item_counts,
        # rows of the raw log, and rows of the tables items and users, without a value in a mapped column
        "missing": {
            **{f"events.{name}": log_counts.rows - n for name, n in log_counts.values.items()},
            **items_missing,
            **users_missing,
        },
        "content_faults": {name: file.faults for name, file in (("items", items), ("users", users)) if file},
    }


def _read_log(context: Context, files: Files, items: ContentFile | None, scratch: Path) -> tuple[DataFrame, LogCounts]:
    """Return the parsed log, with the reason of the first row rule that each row breaks, and its counts.

    About six jobs read the log. It is written to `scratch`, which takes less time and memory than Spark's cache and
    starts every plan anew.
    """
    clean, spark = context.config.clean, context.spark
    specs = {raw(name): spec for name, spec in _event_specs(context).items()}
    lines = read.read(spark, files["events"], _format(context, files, "events"), specs)
    rows = parse(lines.drop(read.BLOCK), time_unit=clean.time_unit, default_event_type=clean.default_event_type)
    if clean.require_known_items and items:
        known = items.frame.select(ITEM_ID, F.lit(True).alias(KNOWN_ITEM))
        rows = rows.join(known, ITEM_ID, "left").withColumn(KNOWN_ITEM, F.coalesce(KNOWN_ITEM, F.lit(False)))
    rules = _row_rules(context)
    rows, log_counts = quarantine.count_log(apply_rules(rows, rules), [rule.reason for rule in rules])
    rows.write.parquet(str(scratch))
    return spark.read.schema(rows.schema).parquet(str(scratch)), log_counts()


def _row_rules(context: Context) -> list[Rule]:
    clean = context.config.clean
    return row_rules(
        {name: spec.source for name, spec in _event_specs(context).items()},
        earliest=clean.earliest,
        cutoff=context.cutoff,
        event_types=clean.event_weights,
        rating_range=clean.rating_range,
        quantity_range=clean.quantity_range,
        price_range=clean.price_range,
        returns=clean.returns,
        require_known_items=clean.require_known_items,
    )


def _event_specs(context: Context) -> dict[str, ColumnSpec]:
    """Return the mapped columns of the log."""
    time_kind = "time" if context.config.clean.time_unit == "iso" else "number"
    kinds = {USER_ID: "id", ITEM_ID: "id", EVENT_TS: time_kind, **dict.fromkeys(NUMBERS, "number")}
    return {
        name: ColumnSpec(source, f"clean.columns.{name}", kinds.get(name, "text"))
        for name, source in context.config.clean.columns.model_dump().items()
        if source is not None
    }


def _check_log(context: Context, files: Files, rows: DataFrame, log_counts: LogCounts) -> None:
    """Raise `EmptyLog`, `InputMismatch` or `AllQuarantined` for a log without valid rows."""
    path = context.config.paths.events
    if not log_counts.rows:
        raise EmptyLog(f"paths.events: {path} has no rows ({len(files['events'])} files). Deliver a log with events")
    if _format(context, files, "events") == "jsonl":
        empty = [spec for name, spec in _event_specs(context).items() if not log_counts.values[name]]
        read.check_json_keys(context.spark, files["events"], empty)
    by_reason = log_counts.by_reason
    if sum(by_reason.values()) == log_counts.rows:
        commonest = max(by_reason, key=lambda reason: (by_reason[reason], reason))
        detail = rows.where(F.col(REASON) == commonest).select(F.min(DETAIL)).first()[0]
        raise quarantine.all_quarantined(path, log_counts.rows, by_reason, f"Example of {commonest}: {detail}. ")


def _valid_events(rows: DataFrame, file: ContentFile | None, key: str) -> DataFrame:
    """Return (`key`, n): the valid rows of each external id, 0 for the ids that only the content file has."""
    ids = rows.where(F.col(REASON).isNull()).select(key, F.lit(1).alias("n"))
    if file:
        ids = ids.unionAll(file.frame.select(key, F.lit(0)))
    return ids.groupBy(key).agg(F.sum("n").alias("n"))


def _extend_index(context: Context, name: str, ids: DataFrame, n_ids: int) -> tuple[DataFrame, dict[str, int]]:
    """Return the index `name` (user or item) with numbers for all `ids`, and its counts."""
    folder = context.layout.user_index if name == "user" else context.layout.item_index
    n_new, size = indexing.extend(context.spark, folder, f"{name}_index", ids, context.layout.run_id, at_most=n_ids)
    index = indexing.read_index(context.spark, folder, f"{name}_index")
    return index, {f"new_{name}s": n_new, f"n_{name}s": size}


def _write_log(
    context: Context,
    rows: DataFrame,
    log_counts: LogCounts,
    user_events: DataFrame,
    user_index: DataFrame,
    item_index: DataFrame,
    folder: Path,
) -> dict[str, Any]:
    """Write interactions and quarantine, check that they hold every row, and return their counts."""
    spark, clean = context.spark, context.config.clean
    marked = mark_duplicates(rows)
    marked = mark_returns(marked) if log_counts.returns else marked
    limits = Limits(clean.max_events_per_user_day, clean.max_events_per_user, clean.k_core_users, clean.k_core_items)
    indexed = apply_user_item_rules(marked, user_index, item_index, user_events, limits)
    interactions = interactions_table(indexed, clean.event_weights)
    n_interactions = tables.write(interactions, folder / "interactions", "interactions")
    invalid = quarantine.quarantine_table(marked).unionAll(quarantine.quarantine_table(indexed))
    tables.write(invalid, folder / "quarantine", "quarantine")
    by_reason, time_span = quarantine.count_written(
        tables.read(spark, folder / "interactions", "interactions"),
        tables.read(spark, folder / "quarantine", "quarantine"),
    )
    quarantine.check_no_row_lost(log_counts.rows, n_interactions, by_reason)
    if not n_interactions:
        raise quarantine.all_quarantined(context.config.paths.events, log_counts.rows, by_reason)
    return {
        "rows_in": log_counts.rows,
        "interactions": n_interactions,
        "quarantined": sum(by_reason.values()),
        "quarantined_by_reason": by_reason,
        **time_span,
    }


def _items_file(context: Context, files: Files) -> ContentFile | None:
    if "items" not in files:
        return None
    kinds = {"item_id": "id", "category": "list"}
    specs = {
        name: ColumnSpec(source, f"clean.item_columns.{name}", kinds.get(name, "text"))
        for name, source in context.config.clean.item_columns.model_dump().items()
        if source is not None
    }
    if "category" in specs:
        specs[CATEGORIES] = specs.pop("category")
    items = _content_file(context, files, "items", specs, ITEM_ID)
    withdrawn = context.config.clean.item_columns.withdrawn
    if withdrawn is not None:
        items_and_users.check_withdrawn(items.frame, withdrawn)
    return items


def _users_file(context: Context, files: Files) -> ContentFile | None:
    if "users" not in files:
        return None
    specs = {USER_ID: ColumnSpec(context.config.clean.user_columns.user_id, "clean.user_columns.user_id", "id")}
    specs |= {c: ColumnSpec(name, "clean.user_columns.attributes") for name, c in _attributes(context).items()}
    return _content_file(context, files, "users", specs, USER_ID)


def _content_file(context: Context, files: Files, name: str, specs: Mapping[str, ColumnSpec], key: str) -> ContentFile:
    lines = read.read(context.spark, files[name], _format(context, files, name), specs, multi_line=True)
    return items_and_users.unique_rows(lines, key, f"paths.{name}")


def _attributes(context: Context) -> dict[str, str]:
    """Return the column of each attribute in the frame of the users file, numbered because any name is allowed."""
    names = dict.fromkeys(context.config.clean.user_columns.attributes) if context.config.paths.users else {}
    return {name: f"attribute_{i}" for i, name in enumerate(names)}


def _write_items(
    context: Context, index: DataFrame, items: ContentFile | None, folder: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the table `items`; return its counts and the numbers of missing values."""
    names = context.config.clean.item_columns
    log_items = tables.read(context.spark, folder / "interactions", "interactions").select(ITEM_IDX).distinct()
    frame = items.frame if items else None
    table = items_and_users.items_table(index, frame, log_items, separator=context.config.clean.category_separator)
    sources = {"title": names.title, CATEGORIES: names.category, "text": names.text}
    mapped = [name for name, source in sources.items() if source is not None] if items else []
    n_items, missing = _write_observed(table, folder, "items", items_and_users.count_missing_item_values(mapped))
    return {"items": n_items, **({"orphan_items": n_items - items.rows} if items else {})}, missing


def _write_users(
    context: Context, index: DataFrame, users: ContentFile | None, user_events: DataFrame, folder: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the table `users`; return its counts and the numbers of missing values."""
    attributes = _attributes(context)
    table = items_and_users.users_table(
        index,
        users.frame if users else None,
        user_events.select(USER_ID),
        attributes=attributes,
        segment_by=context.config.clean.segment_by,
    )
    n_users, missing = _write_observed(table, folder, "users", items_and_users.count_missing_user_values(attributes))
    return {"users": n_users}, missing


def _write_observed(
    table: DataFrame, folder: Path, name: str, counts: Mapping[str, Column]
) -> tuple[int, dict[str, int]]:
    """Write a table; return its number of rows and the values of `counts`."""
    table, values = observed(table, counts)
    return tables.write(table, folder / name, name), values()
