"""Read the new table for the gates, and the rows that the report shows: example users and quarantined rows."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.stages.evaluate.gates import ReleaseCounts
from recsys_spark.storage import manifest, tables
from recsys_spark.storage.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import Column, DataFrame, SparkSession

log = logging.getLogger(__name__)

RECENT = 10
"""Maximum number of history items of an example user."""


def release_counts(spark: SparkSession, layout: Layout, last: int | None) -> ReleaseCounts:
    """Return the counts of the new table; `last` is the result of `last_rows`."""
    users = tables.read(spark, layout.clean_table("users"), "users").select(c.USER_ID)
    table = tables.read(spark, layout.table("score", c.RELEASE, "top_n"), "top_n")
    lists = table.groupBy(c.USER_ID).agg(F.count("*").alias("rows"))
    both = users.withColumn("known", F.lit(True)).join(lists, c.USER_ID, "full")
    unserved = F.count_if(F.col("known") & F.col("rows").isNull())
    rows, known, without = both.agg(F.coalesce(F.sum("rows"), F.lit(0)), F.count("known"), unserved).first()
    exhausted = manifest.require(layout, "score", c.RELEASE).counts.get("users_exhausted", 0)
    return ReleaseCounts(rows=rows, users=known, unserved=without, last_rows=last, exhausted=int(exhausted))


def last_rows(layout: Layout, run_date: str) -> int | None:
    """Return the rows of the last published table whose run date is not `run_date`, None if there is none."""
    published = [m for run in layout.all_runs() if (m := manifest.read(run.stage("publish", c.RELEASE)))]
    others = [m for m in published if m.settings.get("run_date", m.run_id) != run_date and "rows" in m.counts]
    newest = max(others, key=lambda m: (m.finished_at, m.run_id), default=None)
    return int(newest.counts["rows"]) if newest else None


def log_verdict(verdict: dict[str, Any]) -> None:
    """Log one line for each gate, and the verdict."""
    for gate in verdict["gates"]:
        level, word = (logging.INFO, "passed") if gate["passed"] else (logging.WARNING, "FAILED")
        log.log(level, "gate %s %s: %s", gate["gate"], word, gate["message"])
    log.info("gates: %s", "all passed" if verdict["passed"] else "failed, nothing will be published")


def bad_rows(spark: SparkSession, layout: Layout) -> list[dict[str, Any]]:
    """Return one quarantined row of each reason, the first in order of its text: reason, row, detail, source_file."""
    quarantine = tables.read(spark, layout.clean_table("quarantine"), "quarantine")
    first = F.min(F.struct(c.ROW, c.DETAIL, c.SOURCE_FILE)).alias("first")
    rows = quarantine.groupBy(c.REASON).agg(first).select(c.REASON, "first.*").orderBy(c.REASON)
    return [row.asDict() for row in rows.collect()]


def example_users(spark: SparkSession, layout: Layout, n: int) -> list[dict[str, Any]]:
    """Return at most `n` users with their newest history items and their new list, as the report shows them."""
    folder = layout.table("features", c.RELEASE, "histories")
    histories = tables.read(spark, folder, "histories").where(F.col(c.AS_OF) == c.RELEASE)
    return _describe(choose(histories, n), folder, layout)


def choose(histories: DataFrame, n: int) -> list[tuple[int, str]]:
    """Return at most `n` (user_idx, kind): users by the order of their hash, with kind "".

    The last ones are special, as far as there are any: a user without history ("none"), one with the shortest
    ("shortest") and one with the longest history ("longest").
    """
    length, order = F.size(c.ITEM_IDX).alias("length"), F.xxhash64(c.USER_IDX).alias("hash")
    users = histories.select(c.USER_IDX, length, order)
    known = users.where(F.col("length") > 0)

    def first(frame: DataFrame, kind: str, count: int, *by: Column) -> DataFrame:
        return frame.orderBy(*by, "hash", c.USER_IDX).limit(count).withColumn("kind", F.lit(kind))

    candidates = (
        first(known, "", n)
        .unionAll(first(users.where(F.col("length") == 0), "none", 1))
        .unionAll(first(known, "shortest", 1, F.col("length")))
        .unionAll(first(known, "longest", 1, -F.col("length")))
    )
    rows = sorted(candidates.collect(), key=lambda row: (row["length"], row["hash"], row[c.USER_IDX]))
    special: dict[int, str] = {}
    for row in rows:
        if row["kind"]:
            special.setdefault(row[c.USER_IDX], row["kind"])
    usual = sorted((row for row in rows if not row["kind"]), key=lambda row: (row["hash"], row[c.USER_IDX]))
    others = [(row[c.USER_IDX], "") for row in usual if row[c.USER_IDX] not in special]
    return [*others[: max(n - len(special), 0)], *special.items()][:n]


def _describe(chosen: list[tuple[int, str]], histories: Path, layout: Layout) -> list[dict[str, Any]]:
    """Return the `chosen` users in order, each with attributes, newest history items first, and list.

    Reads only the rows of these users.
    """
    indices = pc.field(c.USER_IDX).isin(pa.array([index for index, _ in chosen], pa.int64()))
    released = indices & (pc.field(c.AS_OF) == c.RELEASE)
    users = _by_index(tables.read_arrow(layout.clean_table("users"), "users", filter=indices))
    past = _by_index(tables.read_arrow(histories, "histories", filter=released))
    ids = pa.array([row[c.USER_ID] for row in users.values()], pa.string())
    top_n = layout.table("score", c.RELEASE, "top_n")
    lists = tables.read_arrow(top_n, "top_n", filter=pc.field(c.USER_ID).isin(ids)).to_pylist()
    recent = {index: list(zip(row[c.ITEM_IDX], row[c.EVENT_TS]))[: -RECENT - 1 : -1] for index, row in past.items()}
    named = {row[name] for row in lists for name in (c.ITEM_ID, c.BECAUSE) if row[name] is not None}
    items = _items(layout.clean_table("items"), {i for pairs in recent.values() for i, _ in pairs}, named)
    return [
        {
            "user_id": users[index][c.USER_ID],
            "kind": kind,
            "segment": users[index][c.SEGMENT],
            "attributes": dict(users[index][c.ATTRIBUTES] or []),
            "history_length": len(past[index][c.ITEM_IDX]) if index in past else 0,
            "history": [
                {**items[item], "date": _date(seconds)} for item, seconds in recent.get(index, []) if item in items
            ],
            "recommendations": [
                _recommendation(row, items)
                for row in sorted(lists, key=lambda row: row[c.RANK])
                if row[c.USER_ID] == users[index][c.USER_ID]
            ],
        }
        for index, kind in chosen
        if index in users
    ]


def _by_index(table: pa.Table) -> dict[int, dict[str, Any]]:
    return {row[c.USER_IDX]: row for row in table.to_pylist()}


def _recommendation(row: dict[str, Any], items: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """Return an item with its source and the title of the history item that explains it (None without one)."""
    because = row[c.BECAUSE]
    reason = None if because is None else items.get(because, _unknown(because))["title"]
    return {**items.get(row[c.ITEM_ID], _unknown(row[c.ITEM_ID])), "source": row[c.SOURCE], "because": reason}


def _items(folder: Path, indices: set[int], ids: set[str]) -> dict[Any, dict[str, Any]]:
    """Return title and categories of items, both by item_idx and by item_id."""
    by_index = pc.field(c.ITEM_IDX).isin(pa.array(sorted(indices), pa.int32()))
    by_id = pc.field(c.ITEM_ID).isin(pa.array(sorted(ids), pa.string()))
    columns = [c.ITEM_IDX, c.ITEM_ID, c.TITLE, c.CATEGORIES]
    items: dict[Any, dict[str, Any]] = {}
    for row in tables.read_arrow(folder, "items", columns, by_index | by_id).to_pylist():
        shown = {"title": row[c.TITLE] or row[c.ITEM_ID], "categories": row[c.CATEGORIES]}
        items |= {row[c.ITEM_IDX]: shown, row[c.ITEM_ID]: shown}
    return items


def _unknown(item_id: str) -> dict[str, Any]:
    return {"title": item_id, "categories": []}


def _date(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat() if seconds else None
