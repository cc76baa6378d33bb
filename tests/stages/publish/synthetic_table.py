"""A finished release on disk, without Spark: users, items, interactions, and a lawful top_n that tests may break."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factories import RUN_DATE, finish_stage, make_context, moment
from recsys_spark.columns import RELEASE
from recsys_spark.storage import contract as contracts

N_USERS, N_ITEMS, N = 6, 12, 3
WITHDRAWN_ITEM, BLOCKED_ITEM = 11, 12


def rows(run_id: str, version: str = "v1") -> list[dict[str, Any]]:
    """Top 3 of every user: user u has seen items u+1 and u+2, and is shown u+3, u+4, u+5 (all below 11), the
    first because of u+1 and the others because of u+2."""
    return [
        {
            "user_id": f"u{u}", "item_id": f"i{u + 3 + place}", "rank": place + 1, "score": 3.0 - place,
            "source": "als", "because": f"i{u + 1 + min(place, 1)}", "run_id": run_id, "model_version": version,
        }
        for u in range(N_USERS) for place in range(N)
    ]  # fmt: skip


def finish_release(root: Path, spark=None, *, run_date: date = RUN_DATE, passed: bool = True, lists=None, **sections):
    """A context whose run has everything that publish and check read."""
    context = make_context(root, spark, run_date=run_date, **sections)
    users = [{"user_idx": u, "user_id": f"u{u}", "attributes": {}} for u in range(N_USERS)]
    items = [
        {"item_idx": i, "item_id": f"i{i}", "categories": [], "withdrawn": i == WITHDRAWN_ITEM}
        for i in range(1, N_ITEMS + 1)
    ]
    events = [
        {"user_idx": u, "item_idx": u + step, "event_ts": moment(step), "event_type": "view", "weight": 1.0}
        for u in range(N_USERS) for step in (1, 2)
    ]  # fmt: skip
    tables = {"users": ("users", users), "items": ("items", items), "interactions": ("interactions", events)}
    finish_stage(context, "clean", None, tables, n_users=N_USERS, n_items=N_ITEMS + 1, users=N_USERS)
    lists = [{**row, "run_date": run_date} for row in lists or rows(context.layout.run_id)]
    finish_stage(context, "score", RELEASE, {"top_n": ("top_n", lists)}, users=N_USERS, models=["popularity", "als"])
    (context.layout.stage("score", RELEASE) / "blocked.json").write_text(json.dumps([f"i{BLOCKED_ITEM}"]))
    finish_stage(context, "evaluate", RELEASE, {})
    gates = [
        {
            "gate": "min_ndcg",
            "value": 0.05,
            "limit": 0.1,
            "passed": passed,
            "message": "fused NDCG@10 is 0.05",
        },
        {"gate": "min_coverage", "value": 0.4, "limit": 0.01, "passed": True, "message": "coverage is 0.4"},
    ]
    (context.layout.stage("evaluate", RELEASE) / "verdict.json").write_text(
        json.dumps({"passed": passed, "gates": gates})
    )
    return context


def put_file(folder: Path, name: str, lists: list[dict[str, Any]]) -> Path:
    """A staged Parquet file, as the stage writes it: all columns but run_date."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [f for f in contracts.load("top_n").arrow_schema() if f.name != "run_date"]
    schema = pa.schema([field.with_nullable(True) for field in columns])
    pq.write_table(pa.Table.from_pylist(lists, schema=schema), folder / name)
    return folder / name


def old_schema(monkeypatch) -> None:
    """Until undone, the contract of the published table is the one it had before rows had reasons."""
    whole = contracts.load("top_n")
    fields = tuple(field for field in whole.fields if field.name != "because")
    old, load = replace(whole, fields=fields), contracts.load
    monkeypatch.setattr(contracts, "load", lambda table: old if table == "top_n" else load(table))
