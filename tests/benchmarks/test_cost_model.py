"""The cost model recovers the coefficients behind its measurements, and the page keeps the text around its marks."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import cost_model
import logs
import page

STAGE = next(stage for stage in cost_model.STAGES if stage.name == "score, inner products")


def entry(case, seconds, **config):
    return {
        "case": case,
        "peer": None,
        "ours_seconds": seconds,
        "peer_seconds": None,
        "ratio": None,
        "config": config,
        "ours_facts": {},
        "peer_facts": None,
        "machine": {"cores": 2, "versions": {}},
        "date": "2026-11-22",
    }


def scored(users, items):
    core_seconds = 3 + users * 1e-4 + users * items * 64 * 1e-10
    return entry(
        f"top-N memory {users} x {items}",
        core_seconds / 2,
        users=users,
        items=items,
        factors=64,
        seen_by_each=50,
    )


def test_the_fit_recovers_the_coefficients_of_the_measurements():
    entries = [scored(u, i) for u in (30_000, 200_000) for i in (40_000, 200_000)]
    coefficients, cases, misfit = cost_model.fit(STAGE, entries)
    assert coefficients == pytest.approx([3, 1e-4, 1e-10], rel=1e-3)
    assert cases == 4
    assert misfit < 1e-3


def test_a_single_measurement_counts_as_work_of_the_last_kind():
    coefficients, _, _ = cost_model.fit(STAGE, [scored(30_000, 40_000)])
    assert coefficients[0] == coefficients[1] == 0
    assert coefficients[2] == pytest.approx((3 + 3 + 30_000 * 40_000 * 64 * 1e-10) / (30_000 * 40_000 * 64))


def test_a_stage_without_a_case_is_not_measured():
    assert cost_model.fit(STAGE, [entry("neighbour-table top-N x", 1, users=1, items=1)]) is None
    text = "\n".join(cost_model.forecast([], cost_model.Size(1e8, 1e7, 2e10, 1e10, 1e13), cost_model.Cluster()))
    assert text.count("not measured") == 2 * len(cost_model.STAGES)


def test_squares_follow_the_distribution_of_the_generated_logs():
    log = logs.generate(20_000, 50_000, 1_000_000, seed=1)
    degrees = np.bincount(log.users).astype(float)
    assert cost_model.squares_of(20_000, len(log)) == pytest.approx(np.square(degrees).sum(), rel=0.05)


def test_the_page_changes_only_between_its_marks(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.put(path, page.render([scored(30_000, 40_000)]))
    text = path.read_text()
    assert text.startswith(f"before\n{page.BEGIN}\n| case |")
    assert text.endswith(f"\n{page.END}\nafter\n")
    assert "| top-N memory 30000 x 40000 |" in text
    assert "old" not in text
