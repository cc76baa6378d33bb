"""What the report shows of single rows: a few users with what they had lately and what they get tonight, and a few quarantined rows."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.storage import tables

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

RECENT = 10


def choose(histories: DataFrame, n: int) -> list[tuple[int, str]]:
    """At most `n` (user_idx, kind): users in order of their index's hash (kind ""), and in the last places, when there are any, one each
    without history ("none"), with the shortest ("shortest") and with the longest ("longest")."""
    length, order = F.size(c.ITEM_IDX).alias("length"), F.xxhash64(c.USER_IDX).alias("hash")
    users = histories.select(c.USER_IDX, length, order)
    some = users.where(F.col("length") > 0)

    def first(frame: DataFrame, kind: str, count: int, *by: Column) -> DataFrame:
        return frame.orderBy(*by, "hash", c.USER_IDX).limit(count).withColumn("kind", F.lit(kind))

    found = first(some, "", n).unionAll(first(users.where(F.col("length") == 0), "none", 1))
    found = found.unionAll(first(some, "shortest", 1, F.col("length"))).unionAll(
        first(some, "longest", 1, -F.col("length"))
    )
    rows = sorted(found.collect(), key=lambda row: (row["kind"] == "", row["length"], row["hash"], row[c.USER_IDX]))
    special: dict[int, str] = {}
    for row in rows:
        if row["kind"]:
            special.setdefault(row[c.USER_IDX], row["kind"])
    usual = sorted((row for row in rows if not row["kind"]), key=lambda row: (row["hash"], row[c.USER_IDX]))
    others = [(row[c.USER_IDX], "") for row in usual if row[c.USER_IDX] not in special]
    return [*others[: max(n - len(special), 0)], *special.items()][:n]


def describe(
    chosen: list[tuple[int, str]], *, histories: Path, users: Path, items: Path, top_n: Path
) -> list[dict[str, Any]]:
    """The users of `chosen` in their order, each with attributes, newest history items first, and tonight's list. Reads only their rows."""
    indices = [index for index, _ in chosen]
    wanted = pc.field(c.USER_IDX).isin(pa.array(indices, pa.int64()))
    who = {row[c.USER_IDX]: row for row in tables.read_arrow(users, "users", filter=wanted).to_pylist()}
    had = {
        row[c.USER_IDX]: row
        for row in tables.read_arrow(
            histories, "histories", filter=wanted & (pc.field(c.AS_OF) == c.RELEASE)
        ).to_pylist()
    }
    ids = pa.array([row[c.USER_ID] for row in who.values()], pa.string())
    lists = tables.read_arrow(top_n, "top_n", filter=pc.field(c.USER_ID).isin(ids)).to_pylist()
    recent = {index: list(zip(row[c.ITEM_IDX], row[c.EVENT_TS]))[: -RECENT - 1 : -1] for index, row in had.items()}
    named = {row[name] for row in lists for name in (c.ITEM_ID, c.BECAUSE) if row[name] is not None}
    known = _items(items, {i for pairs in recent.values() for i, _ in pairs}, named)
    return [_user(who[i], kind, had.get(i), recent.get(i, []), lists, known) for i, kind in chosen if i in who]


def bad_rows(quarantine: DataFrame) -> list[dict[str, Any]]:
    """One quarantined row of each reason, the first in order of its text: reason, detail, source_file, row."""
    first = F.min(F.struct(c.ROW, c.DETAIL, c.SOURCE_FILE)).alias("first")
    return [
        row.asDict()
        for row in quarantine.groupBy(c.REASON).agg(first).select(c.REASON, "first.*").orderBy(c.REASON).collect()
    ]


def _user(
    who: dict[str, Any],
    kind: str,
    had: dict[str, Any] | None,
    recent: list[tuple[int, int]],
    lists: list[dict[str, Any]],
    known: dict[Any, Any],
) -> dict[str, Any]:
    mine = sorted((row for row in lists if row[c.USER_ID] == who[c.USER_ID]), key=lambda row: row[c.RANK])
    return {
        "user_id": who[c.USER_ID],
        "kind": kind,
        "segment": who[c.SEGMENT],
        "attributes": dict(who[c.ATTRIBUTES] or []),
        "history_length": len(had[c.ITEM_IDX]) if had else 0,
        "history": [{**known[item], "date": _date(seconds)} for item, seconds in recent if item in known],
        "recommendations": [_recommended(row, known) for row in mine],
    }


def _recommended(row: dict[str, Any], known: dict[Any, Any]) -> dict[str, Any]:
    """An item with its source, and the title of the item that is the reason (None: there is none)."""
    because = row[c.BECAUSE]
    reason = None if because is None else known.get(because, _unknown(because))["title"]
    return {**known.get(row[c.ITEM_ID], _unknown(row[c.ITEM_ID])), "source": row[c.SOURCE], "because": reason}


def _items(folder: Path, indices: set[int], ids: set[str]) -> dict[Any, dict[str, Any]]:
    """What to call an item, by its index and by its id."""
    wanted = pc.field(c.ITEM_IDX).isin(pa.array(sorted(indices), pa.int32())) | pc.field(c.ITEM_ID).isin(
        pa.array(sorted(ids), pa.string())
    )
    rows = tables.read_arrow(folder, "items", [c.ITEM_IDX, c.ITEM_ID, c.TITLE, c.CATEGORIES], wanted).to_pylist()
    named = [(row, {"title": row[c.TITLE] or row[c.ITEM_ID], "categories": row[c.CATEGORIES]}) for row in rows]
    return {key: name for row, name in named for key in (row[c.ITEM_IDX], row[c.ITEM_ID])}


def _unknown(item_id: str) -> dict[str, Any]:
    return {"title": item_id, "categories": []}


def _date(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat() if seconds else None
