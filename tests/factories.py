"""Makes contexts, tables and data with a known best recommendation, for tests of all packages."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.config.config import Config
from recsys_spark.pipeline.context import Context
from recsys_spark.storage import contract as contracts
from recsys_spark.storage.layout import Layout
from recsys_spark.storage.manifest import run_stage

RUN_DATE = date(2026, 3, 1)


def make_context(
    root: Path, spark=None, *, run_date: date = RUN_DATE, force: bool = False, **sections: dict[str, Any]
) -> Context:
    """Return a context with the default config, made small. `sections` override it, such as `score={"top_n": 5}`."""
    tree: dict[str, Any] = {
        "paths": {"root": str(root), "events": str(root / "events.csv")},
        "baselines": {"tasks": 2},
        "features": {"row_groups": 2},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    context = Context(Config.model_validate(tree), Layout(root, run_date.isoformat()), run_date, force)
    if spark is not None:
        context.__dict__["spark"] = spark
    return context


def put_table(folder: Path, table: str, rows: list[dict[str, Any]] | pd.DataFrame) -> None:
    """Write `rows` as `table` in its contract's types, without Spark. Missing columns become null."""
    contract = contracts.load(table)
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    complete = [{name: row.get(name) for name in contract.columns} for row in records]
    data = pa.Table.from_pylist(complete, schema=contract.arrow_schema())
    folder.mkdir(parents=True, exist_ok=True)
    if contract.partition_by:
        pq.write_to_dataset(data, folder, partition_cols=list(contract.partition_by))
    else:
        pq.write_table(data, folder / "part-0.parquet")


def finish_stage(
    context: Context,
    stage: str,
    pass_name: str | None,
    tables: dict[str, tuple[str, list[dict[str, Any]]]],
    settings: dict[str, Any] | None = None,
    **counts: Any,
) -> None:
    """Write a finished stage. `tables` maps the name of a folder to (contract, rows)."""

    def work(folder: Path) -> dict[str, Any]:
        for name, (table, rows) in tables.items():
            put_table(folder / name, table, rows)
        return counts

    run_stage(context.layout, stage, pass_name, inputs={}, settings=settings or {}, work=work, force=True)


def moment(day: int, second: int = 0) -> datetime:
    """Return the UTC time `day` days and `second` seconds after 2026-01-01."""
    return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=day, seconds=second)


def checkerboard(n_users: int, n_items: int) -> list[tuple[int, int]]:
    """Return (user_idx, item_idx) pairs: each user has the items of the user's own parity, item_idx from 1, but one.

    That item is `missing_item(user, n_items)`. Every correct collaborative model must rank it first.
    """
    return [
        (u, i)
        for u in range(n_users)
        for i in range(1, n_items + 1)
        if i % 2 == u % 2 and i != missing_item(u, n_items)
    ]


def missing_item(user: int, n_items: int) -> int:
    """Return the item that the checkerboard leaves out for `user`."""
    same_parity = [i for i in range(1, n_items + 1) if i % 2 == user % 2]
    return same_parity[(user // 2) % len(same_parity)]
