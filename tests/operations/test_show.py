from datetime import date

import pytest

from factories import finish_stage, make_context
from recsys_spark.cli import main
from recsys_spark.operations import show
from recsys_spark.operations.runs import finished_run
from recsys_spark.storage.manifest import write_json


def user(user_id, titles, kind="", n=12):
    item = {"categories": [], "date": None}
    gets = [{**item, "title": f"{user_id} gets {rank} " + "x" * 60, "source": "als"} for rank in range(1, n + 1)]
    history = [{**item, "title": title} for title in titles]
    return {
        "user_id": user_id,
        "kind": kind,
        "history_length": len(titles),
        "history": history,
        "recommendations": gets,
    }


def put_run(context, users):
    ndcg = {"popularity": 0.1, "als": 0.25, "fused": 0.3}
    metrics = {
        "users": 1040,
        "gate_k": 10,
        "models": list(ndcg),
        "accuracy": {m: {"10": {name: {"mean": v} for name in show.METRICS}} for m, v in ndcg.items()},
        "beyond_accuracy": {m: {"coverage": 0.5} for m in ndcg},
    }
    finish_stage(context, "score", "release", {}, rows=24000, users=1200)
    finish_stage(context, "publish", "release", {}, rows=24000)
    write_json(context.layout.table("evaluate", "backtest", "metrics.json"), metrics)
    write_json(context.layout.table("evaluate", "release", "examples.json"), users)


@pytest.fixture
def text(tmp_path, capsys):
    people = [user(name, [f"{name} had {i}" for i in range(9)]) for name in ("ann", "bob", "cyd", "dan")]
    put_run(make_context(tmp_path), [*people, user("new\x1b[2J", [], kind="none")])
    assert main(["show", str(tmp_path)]) == 0
    return capsys.readouterr().out


def test_says_where_things_are(text, tmp_path):
    assert f"table   {tmp_path / 'top_n'}   (24,000 rows for 1,200 users)" in text
    assert f"report  {tmp_path / 'runs' / '2026-03-01' / 'report.html'}" in text


def test_the_best_of_each_column_is_marked(text):
    row = next(line for line in text.splitlines() if line.startswith("  Blend"))
    assert row.split() == ["Blend", "*0.3000", "*0.3000", "*0.3000", "*0.3000", "50.0%"]
    assert text.count("*0.") == 4


def test_two_users_and_one_without_history(text):
    heads = [line for line in text.splitlines() if line.startswith("User ")]
    assert heads == ["User ann, 9 items", "User bob, 9 items", "User new [2J, no history"]
    first = next(line for line in text.splitlines() if "ann had 0" in line)
    assert "1 ann gets 1 xxx" in first and first.endswith("ALS")


def test_fits_a_terminal(text):
    body = text.split("\n\n", 1)[1]  # the paths before it are as long as they are
    assert max(len(line) for line in body.splitlines()) <= show.WIDTH


def test_the_newest_run_is_shown(tmp_path):
    for name in ("2026-02-28", "2026-02-27"):
        context = make_context(tmp_path, run_date=date.fromisoformat(name))
        put_run(context, [])
    assert finished_run(tmp_path, "publish").run_id == "2026-02-27"
    assert finished_run(tmp_path, "publish", "2026-02-28").run_id == "2026-02-28"


def test_no_finished_run_is_one_line(tmp_path, capsys):
    finish_stage(make_context(tmp_path), "score", "release", {}, rows=1)
    assert main(["show", str(tmp_path)]) == 3
    runs = tmp_path / "runs"
    assert capsys.readouterr().err.startswith(f"error: no run has finished its publish stage under {runs}. Run jobs/")
    assert main(["show", str(tmp_path), "--run-id", "2026-03-01"]) == 3
    assert "run '2026-03-01' has not finished its publish stage" in capsys.readouterr().err
