"""The published table: a Delta table that readers see change in one step. The only file that knows deltalake.

A publication is Parquet files that lie in the table's folder already, and one commit that names them. Until the commit no reader of the
table sees them; files of a publication that was killed before it are never seen and are deleted by `vacuum` later.
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
    """The run dates that readers see now, ascending; none when nothing was ever published."""
    table = _open(folder)
    return sorted({entry[RUN_DATE] for entry in _live(table)}) if table else []


def night(folder: Path, run_date: date | None = None) -> Night:
    """What readers see of `run_date` (None: the newest night); `StageMissing` when there is nothing."""
    table = _open(folder)
    live = _live(table) if table else []
    if table is None or not live:
        raise StageMissing(f"{folder} holds no published table; run jobs/publish.py first, or jobs/nightly.py")
    wanted = run_date or max(entry[RUN_DATE] for entry in live)
    own = [entry for entry in live if entry[RUN_DATE] == wanted]
    if not own:
        there = sorted({str(entry[RUN_DATE]) for entry in live})
        raise StageMissing(f"{folder} has no night {wanted}; it has {', '.join(there)}")
    return _night(folder, table.version(), wanted, own)


def published(folder: Path, run_date: date, run_id: str, output_id: str) -> Night | None:
    """The night when its live files are those that this output of this run was published as, else None."""
    table = _open(folder)
    if table is None:
        return None
    own = [entry for entry in _live(table) if entry[RUN_DATE] == run_date]
    # asked by files: the table may have been restored or replaced since
    commit = _commit_of(table, {entry["path"] for entry in own})
    if (commit.get(RUN_ID), commit.get(OUTPUT_ID)) != (run_id, output_id):
        return None
    return _night(folder, table.version(), run_date, own)


def output_id(folder: Path, night: Night) -> str | None:
    """What the output that the night's files were published from was called; None when no commit of ours names these files."""
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
    leaving: Collection[date],
) -> Night:
    """Move the Parquet files `staged` into the table and make them live as the night `run_date`, all in one commit.

    The same commit takes out an earlier publication of that night and the nights `leaving`. The files must have the contract's columns
    but for run_date, and names that no other file has. A table of before a column was thought of gets it first, in a commit of its own;
    older nights then have null there. `PublishConflict` when another writer commits meanwhile, or the folder is not our table; then readers
    go on seeing what they saw.
    """
    table = _open(folder)
    out = [e for e in _live(table) if e[RUN_DATE] == run_date or e[RUN_DATE] in leaving] if table else []
    moved = [_move(file, folder / f"{RUN_DATE}={run_date}") for file in staged]
    adds = [_add(folder, file, run_date) for file in moved]
    names = [add.path for add in adds]
    # no retries: a publication that meets another writer's commit must look again at what it replaces
    properties = CommitProperties(
        custom_metadata={RUN_ID: run_id, OUTPUT_ID: output_id, RUN_DATE: str(run_date), FILES: names},
        max_commit_retries=0,
    )
    _commit(folder, table, adds, [_remove(entry) for entry in out], properties)
    return night(folder, run_date)


def vacuum(folder: Path, hours: int) -> int:
    """Delete files that left the table, or never came in, more than `hours` ago; returns how many."""
    table = _open(folder)
    if table is None:
        return 0
    options: dict[str, Any] = {"retention_hours": hours, "enforce_retention_duration": False, "full": True}
    try:
        # asked first, because a vacuum that deletes nothing would still commit
        return len(table.vacuum(dry_run=False, **options)) if table.vacuum(dry_run=True, **options) else 0
    except DeltaError as error:
        raise PublishConflict(
            f"{folder}: old files could not be deleted: {error}; the table itself is whole"
        ) from error


def _open(folder: Path) -> DeltaTable | None:
    """The table; None when nothing was ever published; `PublishConflict` when something else is there."""
    if not (folder / _LOG).is_dir() or not any((folder / _LOG).iterdir()):
        if folder.is_dir():
            _only_ours(folder)
        return None
    try:
        table = DeltaTable(folder)
    except (DeltaError, OSError, ValueError) as error:
        raise PublishConflict(
            f"{folder} is not a Delta table that can be read: {_line(error)}; restore it or move it away"
        ) from error
    _same_shape(folder, table)
    return table


def _only_ours(folder: Path) -> None:
    """A first publication that was killed leaves folders of run dates and no log; anything else is somebody else's."""
    strangers = sorted(e.name for e in folder.iterdir() if e.name != _LOG and not e.name.startswith(f"{RUN_DATE}="))
    if strangers:
        raise PublishConflict(
            f"{folder} is not a Delta table and holds {', '.join(strangers[:3])}; move it away or give another paths.root"
        )


def _same_shape(folder: Path, table: DeltaTable) -> None:
    """`PublishConflict` unless the table's columns are ours; those that may be null may be missing."""
    ours, theirs = _fields(_schema()), _fields(table.schema())
    faults = [
        f"column {f['name']} is {f['type']}{'' if f['nullable'] else ' not null'}" for f in theirs if f not in ours
    ]
    have = {f["name"] for f in theirs}
    faults += [f"column {f['name']} is missing" for f in ours if f["name"] not in have and not f["nullable"]]
    partition_by = list(table.metadata().partition_columns)
    if partition_by != [RUN_DATE]:
        faults.append(f"it is partitioned by {', '.join(partition_by) or 'nothing'}")
    if faults:
        raise PublishConflict(
            f"{folder} is a Delta table of another shape than schemas/{TABLE}.json: {'; '.join(faults)}; move it away or give another paths.root"
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
            have = {f["name"] for f in _fields(table.schema())}
            lacking = [field for field in _schema().fields if field.name not in have]
            if lacking:
                table.alter.add_columns(lacking, commit_properties=CommitProperties(max_commit_retries=0))
            table.create_write_transaction(
                [*adds, *removes], "append", _schema(), [RUN_DATE], commit_properties=properties
            )
    except DeltaError as error:
        raise PublishConflict(
            f"{folder}: another writer has committed since this publication began ({_line(error)}); run jobs/publish.py again"
        ) from error


def _commit_of(table: DeltaTable, files: set[str]) -> dict[str, Any]:
    """The newest commit of ours that made live just these files; empty without one."""
    commits = table.history() if files else []
    return next((commit for commit in commits if set(commit.get(FILES, [])) == files), {})


def _live(table: DeltaTable) -> list[dict[str, Any]]:
    """Path, run_date, rows and bytes of each live file."""
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
    """Rows, and the range of each column, by which readers skip files."""
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    for column in range(metadata.num_columns):
        found = [group.column(column).statistics for group in groups]
        if found and all(s is not None and s.has_min_max for s in found):
            name = groups[0].column(column).path_in_schema
            lowest[name], highest[name] = min(s.min for s in found), max(s.max for s in found)
    return {"numRecords": metadata.num_rows, "minValues": lowest, "maxValues": highest}


def _move(file: Path, folder: Path) -> Path:
    """Move a file durably, by a rename where both lie on one filesystem."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file.name
    if target.exists():
        raise PublishConflict(f"{target} exists already; run jobs/publish.py again")
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
