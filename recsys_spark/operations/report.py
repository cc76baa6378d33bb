"""`recsys report`: writes report.html of a finished run again, from the files that its stages left."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from recsys_spark import registry
from recsys_spark.columns import RELEASE, RUN_DATE
from recsys_spark.operations.runs import finished_run
from recsys_spark.report import render
from recsys_spark.report.run_facts import BAD_ROWS_FILE, EXAMPLES_FILE, VERDICT_FILE, RunFacts
from recsys_spark.storage import manifest


def run(root: Path, run_id: str | None) -> int:
    """Write the report of the run `run_id`, or the newest one, and print its path; return the exit code."""
    layout = finished_run(root, "evaluate", run_id)
    folder = layout.stage("evaluate", RELEASE)

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    render.write(
        layout.report,
        RunFacts(layout, registry.labels()),
        verdict=read(VERDICT_FILE),
        examples=read(EXAMPLES_FILE),
        # runs of version 0.1.0 lack the file
        bad_rows=read(BAD_ROWS_FILE) if (folder / BAD_ROWS_FILE).exists() else [],
        run_date=date.fromisoformat(manifest.require(layout, "evaluate", RELEASE).settings[RUN_DATE]),
    )
    print(layout.report)
    return 0
