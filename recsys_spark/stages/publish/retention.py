"""Which nights leave the published table. Their files are deleted later, by `commit.vacuum`, so that readers can finish."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date


def leaving(there: Iterable[date], run_date: date, keep_nights: int) -> set[date]:
    """Run dates beyond the newest `keep_nights`, once `run_date` is in the table; `run_date` itself always stays."""
    newest = sorted({*there, run_date}, reverse=True)
    return set(newest[keep_nights:]) - {run_date}
