"""The gates: what must hold before anything is published. Pure; a value that is no number fails, a gate that cannot be judged yet passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recsys_spark.columns import FUSED


@dataclass(frozen=True)
class Gate:
    """One condition and what was met. `value` or `limit` is None where there was nothing to measure or to compare with."""

    gate: str
    value: float | None
    limit: float | None
    passed: bool
    message: str


@dataclass(frozen=True)
class Tonight:
    """What the release made: rows of the table, users of the users table, how many of them have no list, the last published night's
    rows (None when there is none), and how many of those without a list have seen everything that may be shown."""

    rows: int
    users: int
    unserved: int
    last_rows: int | None
    exhausted: int = 0


def judge(
    metrics: dict[str, Any],
    tonight: Tonight,
    *,
    max_drop_below_best_baseline: float | None,
    min_ndcg: float | None,
    min_coverage: float | None,
    every_user_served: bool,
    max_size_change: float | None,
) -> list[Gate]:
    """The gates that are asked for (`evaluate.gates`), judged on `metrics.json` and on tonight's table."""
    k, baseline = metrics["gate_k"], metrics["best_baseline"]
    ndcg = _number(metrics["accuracy"][FUSED][str(k)]["ndcg"]["mean"])
    found = []
    if max_drop_below_best_baseline is not None:
        best = _number(metrics["accuracy"][baseline][str(k)]["ndcg"]["mean"])
        what = f"NDCG@{k} of the blend; the best baseline, {baseline}, has {best:.4f}, and {max_drop_below_best_baseline:g} less is allowed"
        found.append(_at_least("max_drop_below_best_baseline", ndcg, best - max_drop_below_best_baseline, what))
    if min_ndcg is not None:
        found.append(_at_least("min_ndcg", ndcg, min_ndcg, f"NDCG@{k} of the blend"))
    if min_coverage is not None:
        share = _number(metrics["beyond_accuracy"][FUSED]["coverage"])
        found.append(_at_least("min_coverage", share, min_coverage, f"share of the items that some list of {k} shows"))
    if every_user_served:
        found.append(_every_user_served(tonight))
    if max_size_change is not None:
        found.append(_size_change(tonight, max_size_change))
    return found


def verdict(gates: Sequence[Gate]) -> dict[str, Any]:
    """What `verdict.json` holds: `passed` is true when every gate is."""
    return {"passed": all(gate.passed for gate in gates), "gates": [asdict(gate) for gate in gates]}


def _at_least(name: str, value: float, limit: float, what: str, digits: int = 4) -> Gate:
    if not (math.isfinite(value) and math.isfinite(limit)):
        return Gate(name, _plain(value), _plain(limit), False, f"could not be measured: {what}")
    passed = value >= limit
    sign = "≥" if passed else "<"
    return Gate(name, value, limit, passed, f"{value:,.{digits}f} {sign} {limit:,.{digits}f}: {what}")


def _every_user_served(tonight: Tonight) -> Gate:
    what = f"users with a list, of {tonight.users:,} in the users table"
    if tonight.exhausted:
        what += f", {tonight.exhausted:,} of whom have seen everything"
    served = float(tonight.users - tonight.unserved) if tonight.users else math.nan
    return _at_least("every_user_served", served, float(tonight.users - tonight.exhausted), what, digits=0)


def _size_change(tonight: Tonight, limit: float) -> Gate:
    if not tonight.last_rows:
        return Gate(
            "max_size_change",
            None,
            limit,
            True,
            f"not judged: {tonight.rows:,} rows, and no earlier night to compare with",
        )
    change = abs(tonight.rows / tonight.last_rows - 1)
    passed = change <= limit
    message = f"{tonight.rows:,} rows against {tonight.last_rows:,} last night, a change of {change:.1%}, {'within' if passed else 'above'} {limit:.0%}"
    return Gate("max_size_change", change, limit, passed, message)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
