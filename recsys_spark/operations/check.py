"""`recsys check`: checks the constraints of a published night.

Reads the table as any consumer does, and the folder of the run that made the night if it still exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from recsys_spark.columns import RUN_ID
from recsys_spark.errors import ContractViolation
from recsys_spark.stages.publish.constraints import CONSTRAINTS, CheckResult, check
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage.layout import Layout


def run(root: Path, run_date: date | None) -> int:
    """Print the result for the night `run_date`, or the newest one; return the exit code."""
    folder = Layout(root, "").top_n
    night = delta.night(folder, run_date)
    run_id = _run_id(night.files)
    result = check(night.files, Layout(root, run_id), delta.output_id(folder, night))
    print(
        f"{folder}, night {night.run_date} of run {run_id}, version {night.version}: "
        f"{result.rows:,} rows, {result.users:,} users, {result.files:,} files, {night.bytes:,} bytes"
        + (f"; no item is left for {result.exhausted:,} users" if result.exhausted else "")
    )
    for constraint in CONSTRAINTS:
        print(_line(constraint, result))
    return ContractViolation.exit_code if result.violations else 0


def _run_id(files: Sequence[Path]) -> str:
    """Return the run id of the night's first row."""
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(1, columns=[RUN_ID]):
            return str(batch.column(0)[0].as_py())
    return ""


def _line(constraint: str, result: CheckResult) -> str:
    if constraint in result.violations:
        count, example = result.violations[constraint]
        return f"VIOLATED     {constraint}: {count:,} times, e.g. {example}"
    if constraint in result.unchecked:
        return f"not checked  {constraint}: {result.unchecked[constraint]}"
    return f"ok           {constraint}"
