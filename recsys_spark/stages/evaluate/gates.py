"""Judge the gates: conditions that the backtest and the new table must meet before anything is published. Pure.

A gate whose value could not be measured fails. A gate without anything to compare with yet passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recsys_spark.columns import FUSED


@dataclass(frozen=True)
class Gate:
    """One condition and the value it met. `value` or `limit` is None where there was nothing to measure or compare."""

    gate: str
    value: float | None
    limit: float | None
    passed: bool
    message: str


@dataclass(frozen=True)
class ReleaseCounts:
    """Counts of the new table.

    `rows` of the table, `users` of the users table, `unserved` users without a list, `exhausted` users who have seen
    every item that may be shown. `last_rows` is the rows of the last published table, None without one.
    """

    rows: int
    users: int
    unserved: int
    last_rows: int | None
    exhausted: int = 0


def judge(
    metrics: dict[str, Any],
    counts: ReleaseCounts,
    *,
    max_drop_below_best_baseline: float | None,
    min_ndcg: float | None,
    min_coverage: float | None,
    every_user_served: bool,
    max_size_change: float | None,
) -> list[Gate]:
    """Return the configured gates (`evaluate.gates`), judged on `metrics.json` and the new table."""
    k, baseline = metrics["gate_k"], metrics["best_baseline"]
    ndcg = _number(metrics["accuracy"][FUSED][str(k)]["ndcg"]["mean"])
    gates = []
    if max_drop_below_best_baseline is not None:
        best, drop = _number(metrics["accuracy"][baseline][str(k)]["ndcg"]["mean"]), max_drop_below_best_baseline
        text = f"NDCG@{k} of the blend. The best baseline, {baseline}, has {best:.4f}; the gate allows {drop:g} less"
        gates.append(_at_least("max_drop_below_best_baseline", ndcg, best - drop, text))
    if min_ndcg is not None:
        gates.append(_at_least("min_ndcg", ndcg, min_ndcg, f"NDCG@{k} of the blend"))
    if min_coverage is not None:
        share = _number(metrics["beyond_accuracy"][FUSED]["coverage"])
        text = f"share of all items that are in the first {k} of at least one list"
        gates.append(_at_least("min_coverage", share, min_coverage, text))
    if every_user_served:
        gates.append(_every_user_served(counts))
    if max_size_change is not None:
        gates.append(_size_change(counts, max_size_change))
    return gates


def verdict(gates: Sequence[Gate]) -> dict[str, Any]:
    """Return the content of `verdict.json`: the gates, and `passed`, which is true when every gate passed."""
    return {"passed": all(gate.passed for gate in gates), "gates": [asdict(gate) for gate in gates]}


def _at_least(name: str, value: float, limit: float, text: str, digits: int = 4) -> Gate:
    if not (math.isfinite(value) and math.isfinite(limit)):
        return Gate(name, _or_none(value), _or_none(limit), False, f"could not be measured: {text}")
    passed = value >= limit
    sign = "≥" if passed else "<"
    return Gate(name, value, limit, passed, f"{value:,.{digits}f} {sign} {limit:,.{digits}f}: {text}")


def _every_user_served(counts: ReleaseCounts) -> Gate:
    text = f"users with a list. The users table has {counts.users:,} users"
    if counts.exhausted:
        text += f"; {counts.exhausted:,} of them have seen every item that may be shown"
    served = float(counts.users - counts.unserved) if counts.users else math.nan
    return _at_least("every_user_served", served, float(counts.users - counts.exhausted), text, digits=0)


def _size_change(counts: ReleaseCounts, limit: float) -> Gate:
    name = "max_size_change"
    if not counts.last_rows:
        return Gate(name, None, limit, True, f"not judged: {counts.rows:,} rows, and no earlier table to compare with")
    change = abs(counts.rows / counts.last_rows - 1)
    passed = change <= limit
    message = f"{counts.rows:,} rows after {counts.last_rows:,} in the last published table: a change of {change:.1%}, "
    message += f"{'within' if passed else 'above'} the limit of {limit:.0%}"
    return Gate(name, change, limit, passed, message)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
