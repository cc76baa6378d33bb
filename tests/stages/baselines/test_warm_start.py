"""Which earlier model a night starts from, and that the release alone does."""

from datetime import date

import numpy as np
import pytest

from factories import finish_stage, make_context
from recsys_spark.columns import ALS
from recsys_spark.stages.baselines import stage
from recsys_spark.stages.baselines.warm_start import last_night
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout
from recsys_spark.storage.manifest import run_stage
from stages.baselines.test_stage import ITEMS, USERS, fold_rows

TONIGHT = "2026-03-09T00:00:00+00:00"


def put_run(root, run_id: str, day: int, *, factors: int = 4, models=("popularity", "als"), finished=True):
    layout = Layout(root, run_id)
    cutoff = {"cutoff": f"2026-03-{day:02}T00:00:00+00:00"}
    run_stage(layout, "clean", None, inputs={}, settings=cutoff, work=lambda folder: {})
    if not finished:
        layout.stage("baselines", "release").mkdir(parents=True)
        return None
    settings = {"models": list(models), "als": {"factors": factors}}
    return run_stage(layout, "baselines", "release", inputs={}, settings=settings, work=lambda folder: {})


def test_the_latest_night_before_this_one_whenever_it_was_made(tmp_path):
    put_run(tmp_path, "c", 8)
    expected = put_run(tmp_path, "b", 8)  # same night, made later: the name decides
    put_run(tmp_path, "z", 7)
    put_run(tmp_path, "tonight", 9)
    put_run(tmp_path, "tomorrow", 10)
    found = last_night(Layout(tmp_path, "tonight"), TONIGHT, 4)
    assert found.run_id == "c"
    assert found.output_id != expected.output_id
    assert found.folder == Layout(tmp_path, "c").table("baselines", "release", ALS)


@pytest.mark.parametrize("unfit", [{"factors": 8}, {"models": ("popularity",)}, {"finished": False}])
def test_a_run_without_such_a_model_is_passed_over(tmp_path, unfit):
    put_run(tmp_path, "old", 6)
    put_run(tmp_path, "new", 7, **unfit)
    assert last_night(Layout(tmp_path, "tonight"), TONIGHT, 4).run_id == "old"


def test_no_earlier_night(tmp_path):
    put_run(tmp_path, "tonight", 9)
    assert last_night(Layout(tmp_path, "tonight"), TONIGHT, 4) is None


def night(root, spark, day: int, **als):
    """Both passes of the stage on a night's own folds."""
    sizes = {"factors": 4, "iterations": 5, "seed": 7, **als}
    context = make_context(
        root, spark, run_date=date(2026, 3, day), baselines={"models": ["popularity", "als"], "als": sizes}
    )
    settings = {"cutoff": context.cutoff.isoformat()}
    counts = {"n_users": USERS, "n_items": ITEMS + 1}
    run_stage(context.layout, "clean", None, inputs={}, settings=settings, work=lambda folder: dict(counts))
    for pass_name in ("backtest", "release"):
        finish_stage(context, "split", pass_name, {"folds": ("folds", fold_rows())}, train=len(fold_rows()))
        stage.run(context, pass_name)
    return {name: manifest.read(context.layout.stage("baselines", name)) for name in ("backtest", "release")}


def test_the_release_alone_starts_from_last_night_and_says_so(spark, tmp_path):
    first = night(tmp_path, spark, 1, warm_iterations=2)
    second = night(tmp_path, spark, 2, warm_iterations=2)
    cold = night(tmp_path, spark, 3)
    assert "als_start" not in first["release"].inputs | second["backtest"].inputs | cold["release"].inputs
    assert second["release"].inputs["als_start"] == f"2026-03-01 {first['release'].output_id}"
    assert [len(m["release"].counts["als_objective"]) for m in (first, second, cold)] == [5, 2, 5]
    # the same log: its first alternation stands where five had led, and not where one from nothing leads
    before, after = (m["release"].counts["als_objective"] for m in (first, second))
    assert after[0] == pytest.approx(before[-1], rel=1e-5)
    assert before[0] > before[-1] * 1.001
    np.testing.assert_allclose(
        second["backtest"].counts["als_objective"], first["backtest"].counts["als_objective"], rtol=1e-6
    )
