"""The published table as a Delta table, which changes for readers in one commit. Only this module imports deltalake.

A publication first moves Parquet files into the table's folder, then names them in one commit. Readers see nothing
before the commit. Files that a killed publication leaves are never read, and `vacuum` deletes them later.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from recsys_spark.columns import RUN_DATE, RUN_ID
from recsys_spark.errors import PublishConflict, StageMissing
from recsys_spark.storage import contract as contracts

TABLE = "top_n"
OUTPUT_ID = "output_id"
FILES = "published_files"
_LOG = "_delta_log"


@dataclass(frozen=True)
class Night:
    """The live files of one run date."""

    run_date: date
    version: int
    files: tuple[Path, ...]
    rows: int
    bytes: int


def nights(folder: Path) -> list[date]:
    """Return the published run dates, ascending."""
    table = _open(folder)
    return sorted({entry[RUN_DATE] for entry in _live(table)}) if table else []


def night(folder: Path, run_date: date | None = None) -> Night:
    """Return the published night of `run_date`, or the newest one. `StageMissing` when there is none."""
    table = _open(folder)
    live = _live(table) if table else []
    if table is None or not live:
        raise StageMissing(f"{folder} holds no published table. Run jobs/publish.py first, or jobs/nightly.py")
    run_date = run_date or max(entry[RUN_DATE] for entry in live)
    entries = [entry for entry in live if entry[RUN_DATE] == run_date]
    if not entries:
        dates = sorted({str(entry[RUN_DATE]) for entry in live})
        raise StageMissing(f"{folder} has no night {run_date}. Published nights: {', '.join(dates)}")
    return _night(folder, table.version(), run_date, entries)


def published(folder: Path, run_date: date, run_id: str, output_id: str) -> Night | None:
    """Return the night if its live files were published from this output of this run, else None."""
    table = _open(folder)
    if table is None:
        return None
    entries = [entry for entry in _live(table) if entry[RUN_DATE] == run_date]
    # the commit is found by its files, because the table may have been restored to an older version
    commit = _commit_of(table, {entry["path"] for entry in entries})
    if (commit.get(RUN_ID), commit.get(OUTPUT_ID)) != (run_id, output_id):
        return None
    return _night(folder, table.version(), run_date, entries)


def output_id(folder: Path, night: Night) -> str | None:
    """Return the id of the output that the night was published from, or None when no commit records it."""
    table = _open(folder)
    files = {str(file.relative_to(folder)) for file in night.files}
    return _commit_of(table, files).get(OUTPUT_ID) if table else None


def publish(
    folder: Path,
    staged: Sequence[Path],
    *,
    run_date: date,
    run_id: str,
    output_id: str,
    expired: Collection[date],
) -> Night:
    """Move the Parquet files `staged` into the table and publish them as the night `run_date` in one commit.

    The same commit removes an earlier publication of that night and the nights `expired`. The files need unique names
    and the columns of the contract except run_date. A table that lacks a nullable column of the contract gets it first,
    in a commit of its own; the column is null for older nights. `PublishConflict` when another writer commits at the
    same time, or when the folder holds another table. Readers then still see the former version.
    """
    table = _open(folder)
    replaced = [e for e in _live(table) if e[RUN_DATE] == run_date or e[RUN_DATE] in expired] if table else []
    moved = [_move(file, folder / f"{RUN_DATE}={run_date}") for file in staged]
    adds = [_add(folder, file, run_date) for file in moved]
    names = [add.path for add in adds]
    # no retries: after another writer's commit the files to replace must be determined again
    properties = CommitProperties(
        custom_metadata={RUN_ID: run_id, OUTPUT_ID: output_id, RUN_DATE: str(run_date), FILES: names},
        max_commit_retries=0,
    )
    _commit(folder, table, adds, [_remove(entry) for entry in replaced], properties)
    return night(folder, run_date)


def vacuum(folder: Path, hours: int) -> int:
    """Delete files that have not been part of the table for `hours`; return their number."""
    table = _open(folder)
    if table is None:
        return 0
    options: dict[str, Any] = {"retention_hours": hours, "enforce_retention_duration": False, "full": True}
    try:
        # a dry run comes first, because a vacuum that deletes nothing would still commit
        return len(table.vacuum(dry_run=False, **options)) if table.vacuum(dry_run=True, **options) else 0
    except DeltaError as error:
        raise PublishConflict(
            f"{folder}: old files could not be deleted: {_line(error)}. The table is intact. Run jobs/publish.py again"
        ) from error


def _open(folder: Path) -> DeltaTable | None:
    """Return the table, or None before the first publication. `PublishConflict` when the folder holds anything else."""
    if not (folder / _LOG).is_dir() or not any((folder / _LOG).iterdir()):
        if folder.is_dir():
            _check_unused(folder)
        return None
    try:
        table = DeltaTable(folder)
    except (DeltaError, OSError, ValueError) as error:
        raise PublishConflict(
            f"{folder} is not a readable Delta table: {_line(error)}. Restore it or move it away"
        ) from error
    _check_schema(folder, table)
    return table


def _check_unused(folder: Path) -> None:
    """Allow an empty folder, and the folders of run dates that a killed first publication leaves."""
    others = sorted(e.name for e in folder.iterdir() if e.name != _LOG and not e.name.startswith(f"{RUN_DATE}="))
    if others:
        raise PublishConflict(
            f"{folder} is not a Delta table and holds {', '.join(others[:3])}. "
            "Move it away or set paths.root to another folder"
        )


def _check_schema(folder: Path, table: DeltaTable) -> None:
    """`PublishConflict` unless the table has the columns of the contract. Nullable columns may be missing."""
    expected, actual = _fields(_schema()), _fields(table.schema())
    faults = [
        f"column {f['name']} is {f['type']}{'' if f['nullable'] else ' not null'}" for f in actual if f not in expected
    ]
    names = {f["name"] for f in actual}
    faults += [f"column {f['name']} is missing" for f in expected if f["name"] not in names and not f["nullable"]]
    partition_by = list(table.metadata().partition_columns)
    if partition_by != [RUN_DATE]:
        faults.append(f"it is partitioned by {', '.join(partition_by) or 'nothing'}")
    if faults:
        raise PublishConflict(
            f"{folder} is a Delta table that differs from schemas/{TABLE}.json: {'; '.join(faults)}. "
            "Move it away or set paths.root to another folder"
        )


def _commit(
    folder: Path,
    table: DeltaTable | None,
    adds: list[AddAction],
    removes: list[RemoveAction],
    properties: CommitProperties,
) -> None:
    try:
        if table is None:
            create_table_with_add_actions(
                str(folder), _schema(), adds, mode="error", partition_by=[RUN_DATE], name=TABLE,
                description=contracts.load(TABLE).description, commit_properties=properties,
            )  # fmt: skip
        else:
            names = {f["name"] for f in _fields(table.schema())}
            missing = [field for field in _schema().fields if field.name not in names]
            if missing:
                table.alter.add_columns(missing, commit_properties=CommitProperties(max_commit_retries=0))
            table.create_write_transaction(
                [*adds, *removes], "append", _schema(), [RUN_DATE], commit_properties=properties
            )
    except DeltaError as error:
        raise PublishConflict(
            f"{folder}: another writer has committed since this publication began ({_line(error)}). "
            "Run jobs/publish.py again"
        ) from error


def _commit_of(table: DeltaTable, files: set[str]) -> dict[str, Any]:
    """Return the metadata of the newest commit that published exactly these files, or an empty dictionary."""
    commits = table.history() if files else []
    return next((commit for commit in commits if set(commit.get(FILES, [])) == files), {})


def _live(table: DeltaTable) -> list[dict[str, Any]]:
    """Return path, run_date, rows and bytes of each live file."""
    actions = table.get_add_actions(flatten=True)
    columns = {
        name: actions.column(name).to_pylist()
        for name in ("path", "size_bytes", "num_records", f"partition.{RUN_DATE}")
    }
    return [
        {"path": path, "bytes": size, "rows": rows, RUN_DATE: day} for path, size, rows, day in zip(*columns.values())
    ]


def _night(folder: Path, version: int, run_date: date, entries: list[dict[str, Any]]) -> Night:
    files = tuple(sorted(folder / entry["path"] for entry in entries))
    return Night(run_date, version, files, sum(e["rows"] for e in entries), sum(e["bytes"] for e in entries))


def _fields(schema: Schema) -> list[dict[str, Any]]:
    return list(json.loads(schema.to_json())["fields"])


def _schema() -> Schema:
    return Schema.from_arrow(contracts.load(TABLE).arrow_schema())


def _add(folder: Path, file: Path, run_date: date) -> AddAction:
    state = file.stat()
    return AddAction(
        path=str(file.relative_to(folder)),
        size=state.st_size,
        partition_values={RUN_DATE: str(run_date)},
        modification_time=int(state.st_mtime * 1000),
        data_change=True,
        stats=json.dumps(_statistics(pq.read_metadata(file))),
    )


def _remove(entry: dict[str, Any]) -> RemoveAction:
    return RemoveAction(
        path=entry["path"],
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        size=entry["bytes"],
        partition_values={RUN_DATE: str(entry[RUN_DATE])},
    )


def _statistics(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Return the number of rows and the range of each column. Readers skip files by them."""
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    for column in range(metadata.num_columns):
        statistics = [group.column(column).statistics for group in groups]
        if statistics and all(s is not None and s.has_min_max for s in statistics):
            name = groups[0].column(column).path_in_schema
            lowest[name], highest[name] = min(s.min for s in statistics), max(s.max for s in statistics)
    return {"numRecords": metadata.num_rows, "minValues": lowest, "maxValues": highest}


def _move(file: Path, folder: Path) -> Path:
    """Move a file and flush it to disk. Across file systems the file is copied."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    if target.exists():
        raise PublishConflict(f"{target} exists already. Run jobs/publish.py again")
    try:
        os.rename(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(file, target)
        file.unlink()
    with open(target, "rb") as written:
        os.fsync(written.fileno())
    return target


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
