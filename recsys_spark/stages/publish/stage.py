"""The publish stage: publishes the release's top N as a partition of the table, in one commit, if the gates pass."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_spark.columns import RANK, RELEASE, RUN_DATE, USER_ID
from recsys_spark.errors import ContractViolation, GateFailed, StageMissing
from recsys_spark.stages.publish.constraints import check
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from recsys_spark.pipeline.context import Context
    from recsys_spark.storage.layout import Layout

NAME = "publish"
PASSES = (RELEASE,)
TABLE = delta.TABLE

log = logging.getLogger(__name__)


def run(context: Context, pass_name: str) -> None:
    """Publish the night, or raise `GateFailed`. The same output of the same run is published once."""
    layout = context.layout
    inputs = manifest.output_ids(layout, [("score", pass_name), ("evaluate", pass_name)])
    require_gates(layout.table("evaluate", pass_name, "verdict.json"))
    output_id = inputs[f"{pass_name}/score"]
    manifest.run_stage(
        layout,
        NAME,
        pass_name,
        inputs=inputs,
        settings={**context.config.publish.model_dump(mode="json"), RUN_DATE: context.run_date.isoformat()},
        work=lambda folder: _publish(context, folder, output_id),
        force=context.force,
    )


def require_gates(path: Path) -> None:
    """Raise `GateFailed` with each failed gate, its value and its limit, or `StageMissing` without a verdict."""
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise StageMissing(f"{path} cannot be read. Run jobs/evaluate.py with the same --run-id first") from None
    if not verdict["passed"]:
        failed = [
            f"{g['gate']}: {g['message']} (value {g['value']}, limit {g['limit']})"
            for g in verdict["gates"]
            if not g["passed"]
        ]
        raise GateFailed(
            f"the gates failed and nothing is published: {'; '.join(failed)}. The published table stays as it is. "
            "Fix the cause or change the limits in evaluate.gates"
        )


def expired_nights(published: Iterable[date], run_date: date, keep_nights: int) -> set[date]:
    """Return the run dates beyond the newest `keep_nights` once `run_date` is published. `run_date` itself stays.

    `delta.vacuum` deletes their files later, so that readers can finish.
    """
    newest = sorted({*published, run_date}, reverse=True)
    return set(newest[keep_nights:]) - {run_date}


def check_constraints(files: list[Path], layout: Layout) -> None:
    """Raise `ContractViolation` with every violated constraint and an example."""
    result = check(files, layout)
    if result.violations:
        raise ContractViolation(
            f"top_n of run {layout.run_id!r} is not published because it violates constraints: {result.summary()}"
        )
    log.info("publish: the constraints hold for %d rows of %d users", result.rows, result.users)


def _publish(context: Context, folder: Path, output_id: str) -> dict[str, Any]:
    layout, settings = context.layout, context.config.publish
    night = delta.published(layout.top_n, context.run_date, layout.run_id, output_id)
    if night:
        log.info("publish: version %d already holds this output", night.version)
    else:
        night = _commit_night(context, folder / TABLE, output_id)
    deleted = delta.vacuum(layout.top_n, settings.vacuum_hours)
    return {
        "rows": night.rows,
        "users": manifest.require(layout, "score", RELEASE).counts.get("users"),
        "version": night.version,
        "files": len(night.files),
        "bytes": night.bytes,
        "vacuumed": deleted,
    }


def _commit_night(context: Context, staged: Path, output_id: str) -> delta.Night:
    layout, run_date = context.layout, context.run_date
    published = delta.nights(layout.top_n)  # before Spark starts, so that a foreign table is reported at once
    expired = expired_nights(published, run_date, context.config.publish.keep_nights)
    files = _write(context, staged)
    check_constraints(files, layout)
    night = delta.publish(
        layout.top_n, files, run_date=run_date, run_id=layout.run_id, output_id=output_id, expired=expired
    )
    log.info("publish: %s is published as version %d; %d nights expired", run_date, night.version, len(expired))
    shutil.rmtree(staged)
    return night


def _write(context: Context, folder: Path) -> list[Path]:
    """Write the night as `publish.files` Parquet files; return them.

    Each file holds a range of user_id, sorted by (user_id, rank), so that readers can skip files and row groups.
    """
    top = tables.read(context.spark, context.layout.table("score", RELEASE, TABLE), TABLE)
    sorted_top = top.repartitionByRange(context.config.publish.files, USER_ID).sortWithinPartitions(USER_ID, RANK)
    tables.write(sorted_top, folder, TABLE)
    return sorted((folder / f"{RUN_DATE}={context.run_date}").glob("*.parquet"))
