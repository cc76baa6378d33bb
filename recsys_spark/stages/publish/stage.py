"""The publish stage: the release's top N becomes the night's part of the published table, in one commit, if the gates allow it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_spark.columns import RANK, RELEASE, RUN_DATE, USER_ID
from recsys_spark.errors import ContractViolation, GateFailed, StageMissing
from recsys_spark.stages.publish import retention
from recsys_spark.stages.publish.constraints import check
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from recsys_spark.pipeline.job import Context
    from recsys_spark.storage.layout import Layout

NAME = "publish"
PASSES = (RELEASE,)
TABLE = delta.TABLE

log = logging.getLogger(__name__)


def run(context: Context, pass_name: str) -> None:
    """Publish, or raise `GateFailed`; the same output of the same run is not published twice."""
    layout = context.layout
    inputs = {f"{pass_name}/{stage}": manifest.require(layout, stage, pass_name) for stage in ("score", "evaluate")}
    obey_verdict(layout.table("evaluate", pass_name, "verdict.json"))
    output_id = inputs[f"{pass_name}/score"].output_id
    manifest.run_stage(
        layout,
        NAME,
        pass_name,
        inputs={name: of.output_id for name, of in inputs.items()},
        settings={**context.config.publish.model_dump(mode="json"), RUN_DATE: context.run_date.isoformat()},
        work=lambda folder: _publish(context, folder, output_id),
        force=context.force,
    )


def obey_verdict(path: Path) -> None:
    """`GateFailed`, naming each failed gate with its value and limit; `StageMissing` without a verdict."""
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise StageMissing(
            f"{path} is not there or cannot be read; run jobs/evaluate.py with the same --run-id first"
        ) from None
    if not verdict["passed"]:
        failed = [
            f"{g['gate']}: {g['message']} (value {g['value']}, limit {g['limit']})"
            for g in verdict["gates"]
            if not g["passed"]
        ]
        raise GateFailed(
            f"the gates forbid publishing, and the published table stays as it is; {'; '.join(failed)}; "
            "mend the cause, or the limits in evaluate.gates"
        )


def _publish(context: Context, folder: Path, output_id: str) -> dict[str, Any]:
    layout, settings = context.layout, context.config.publish
    night = delta.published(layout.top_n, context.run_date, layout.run_id, output_id)
    if night:
        log.info("publish: this output is live already, in version %d", night.version)
    else:
        night = _make_live(context, folder / TABLE, output_id)
    deleted = delta.vacuum(layout.top_n, settings.vacuum_hours)
    return {
        "rows": night.rows,
        "users": manifest.require(layout, "score", RELEASE).counts.get("users"),
        "version": night.version,
        "files": len(night.files),
        "bytes": night.bytes,
        "vacuumed": deleted,
    }


def _make_live(context: Context, staged: Path, output_id: str) -> delta.Night:
    layout, run_date = context.layout, context.run_date
    there = delta.nights(layout.top_n)  # before the work, so that a table of another shape is told at once
    leaving = retention.leaving(there, run_date, context.config.publish.keep_nights)
    files = _write(context, staged)
    keep_laws(files, layout)
    night = delta.publish(
        layout.top_n, files, run_date=run_date, run_id=layout.run_id, output_id=output_id, leaving=leaving
    )
    log.info("publish: %s is live as version %d; %d nights left the table", run_date, night.version, len(leaving))
    shutil.rmtree(staged)
    return night


def _write(context: Context, folder: Path) -> list[Path]:
    """The night as `publish.files` Parquet files, cut by ranges of user_id and sorted by (user_id, rank), so that readers can skip."""
    top = tables.read(context.spark, context.layout.table("score", RELEASE, TABLE), TABLE)
    sorted_top = top.repartitionByRange(context.config.publish.files, USER_ID).sortWithinPartitions(USER_ID, RANK)
    tables.write(sorted_top, folder, TABLE)
    return sorted((folder / f"{RUN_DATE}={context.run_date}").glob("*.parquet"))


def keep_laws(files: list[Path], layout: Layout) -> None:
    """`ContractViolation` with every broken law and an example; nothing is published then."""
    found = check(files, layout)
    if found.broken:
        raise ContractViolation(
            f"top_n of run {layout.run_id!r} breaks the laws of the published table, and stays unpublished: {found.told()}"
        )
    log.info("publish: the laws hold for %d rows of %d users", found.rows, found.users)
