"""Are the laws of the published table kept?   python -m recsys_spark.operations.check <root> [--run-date YYYY-MM-DD]

Reads the table as any consumer does, and the folder of the run that made the night, when it is still there. Needs neither Spark nor a
configuration. Exit code 0, or 10 with each broken law and an example row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from recsys_spark.columns import RUN_ID
from recsys_spark.errors import ContractViolation, RecsysError
from recsys_spark.stages.publish.constraints import LAWS, Findings, check
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage.layout import Layout


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was checked; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_spark.operations.check", description="Check the laws of the published table."
    )
    parser.add_argument("root", type=Path, help="paths.root of the job")
    parser.add_argument("--run-date", type=date.fromisoformat, help="the night to check (default: the newest)")
    arguments = parser.parse_args(argv)
    try:
        found = _check(arguments.root.resolve(), arguments.run_date)
    except RecsysError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for law in LAWS:
        print(_line(law, found))
    return ContractViolation.exit_code if found.broken else 0


def _check(root: Path, run_date: date | None) -> Findings:
    layout = Layout(root, "")
    night = delta.night(layout.top_n, run_date)
    run_id = _run_id(night.files)
    found = check(night.files, Layout(root, run_id), delta.output_id(layout.top_n, night))
    print(
        f"{layout.top_n}, night {night.run_date} of run {run_id}, version {night.version}: "
        f"{found.rows:,} rows, {found.users:,} users, {found.files:,} files, {night.bytes:,} bytes"
        + (f"; {found.exhausted:,} users have seen everything" if found.exhausted else "")
    )
    return found


def _run_id(files: Sequence[Path]) -> str:
    """The run of the night's first row."""
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(1, columns=[RUN_ID]):
            return str(batch.column(0)[0].as_py())
    return ""


def _line(law: str, found: Findings) -> str:
    if law in found.broken:
        count, example = found.broken[law]
        return f"BROKEN       {law}: {count:,} times, e.g. {example}"
    if law in found.unchecked:
        return f"not checked  {law}: {found.unchecked[law]}"
    return f"ok           {law}"


if __name__ == "__main__":
    sys.exit(main())
