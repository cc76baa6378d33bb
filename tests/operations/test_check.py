"""`recsys check` finds each constraint that is violated on purpose."""

import json
import shutil
from datetime import date

import pytest

from recsys_spark.cli import main
from recsys_spark.columns import RELEASE
from recsys_spark.stages.publish import constraints
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage import manifest
from stages.publish.synthetic_table import (
    BLOCKED_ITEM,
    N_ITEMS,
    N_USERS,
    WITHDRAWN_ITEM,
    N,
    finish_release,
    old_schema,
    put_file,
    rows,
)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return finish_release(tmp_path_factory.mktemp("release"))


def publish(context, *files):
    """Publish rows past all checks, one Parquet file a list."""
    shutil.rmtree(context.layout.top_n, ignore_errors=True)
    staged = [put_file(context.layout.root / "staged", f"{n}.parquet", lists) for n, lists in enumerate(files)]
    delta.publish(
        context.layout.top_n,
        staged,
        run_date=context.run_date,
        run_id=context.layout.run_id,
        output_id=manifest.require(context.layout, "score", RELEASE).output_id,
        expired=(),
    )


def change(which, **values):
    return lambda lists: [{**row, **values} if n == which else row for n, row in enumerate(lists)]


VIOLATIONS = {
    # row 4 is user u1's rank 2
    "a gap in the ranks": (change(5, rank=4), constraints.RANKS, "user_id='u1' item_id='i6' rank=4"),
    "ranks from 0": (
        lambda r: [{**row, "rank": row["rank"] - 1} for row in r],
        constraints.RANKS,
        "user_id='u0' item_id='i3' rank=0",
    ),
    "a rank twice": (change(4, rank=1), constraints.RANKS, "user_id='u1'"),
    "a pair twice": (change(4, item_id="i4"), constraints.PAIRS, "user_id='u1' item_id='i4' rank=2"),
    "a rising score": (
        change(4, score=3.5),
        constraints.SCORES,
        "user_id='u1' item_id='i5' rank=2 score=3.5",
    ),
    "a score that is not a number": (
        change(17, score=float("nan")),
        constraints.SCORES,
        "user_id='u5' item_id='i10' rank=3 score=nan",
    ),
    "an unknown source": (change(0, source="guess"), constraints.SOURCES, "source='guess'"),
    "a model that this run lacks": (change(0, source="network"), constraints.SOURCES, "source='network'"),
    "another run": (change(17, run_id="other"), constraints.ONE_RUN, "run_id='other'"),
    "another model version": (change(17, model_version="v2"), constraints.ONE_RUN, "model_version='v2'"),
    "a null": (
        change(3, source=None),
        constraints.NULLS,
        "user_id='u1' item_id='i4' rank=1 score=3.0 source=None",
    ),
    "a row without an explanation": (
        change(4, because=None),
        constraints.EXPLAINED,
        "user_id='u1' item_id='i5' rank=2",
    ),
    "an explanation that is no item": (
        change(4, because="nothing"),
        constraints.EXPLANATIONS,
        "because='nothing'",
    ),
    "an explanation from another history": (
        change(4, because="i5"),
        constraints.EXPLANATIONS,
        "user_id='u1' item_id='i5' rank=2 score=2.0 source='als' because='i5'",
    ),
    "an unknown user": (lambda r: [*r, {**r[0], "user_id": "nobody"}], constraints.KNOWN, "user_id='nobody'"),
    "an unknown item": (
        change(7, item_id="nothing"),
        constraints.KNOWN,
        "user_id='u2' item_id='nothing' rank=2",
    ),
    "a seen item": (change(7, item_id="i3"), constraints.SEEN, "user_id='u2' item_id='i3' rank=2"),
    "a withdrawn item": (
        change(1, item_id=f"i{WITHDRAWN_ITEM}"),
        constraints.WITHDRAWN,
        "user_id='u0' item_id='i11' rank=2",
    ),
    "a blocked item": (
        change(1, item_id=f"i{BLOCKED_ITEM}"),
        constraints.BLOCKED,
        "user_id='u0' item_id='i12' rank=2",
    ),
    "a user is missing": (lambda r: r[:-N], constraints.EVERY_USER, "user_id='u5'"),
}


@pytest.mark.parametrize("fault", VIOLATIONS)
def test_each_violation_is_found(release, capsys, fault):
    damage, constraint, example = VIOLATIONS[fault]
    publish(release, damage(rows(release.layout.run_id)))
    assert main(["check", str(release.layout.root)]) == 10
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("VIOLATED") and constraint in line)
    assert example in line
    # and no constraint that the fault does not touch
    touched = {
        "a null": constraints.SOURCES,
        "a pair twice": constraints.PAIRS,
        "an unknown user": constraints.EXPLANATIONS,
    }
    allowed = {constraint, touched.get(fault, constraint)}
    assert {
        known for known in constraints.CONSTRAINTS for line in out.splitlines() if line == f"ok           {known}"
    } >= set(constraints.CONSTRAINTS) - allowed


def test_a_valid_table_passes_and_every_constraint_is_listed(release, capsys):
    lists = rows(release.layout.run_id)
    publish(release, lists[:9], lists[9:])
    assert main(["check", str(release.layout.root)]) == 0
    out = capsys.readouterr().out
    assert f"{N_USERS * N} rows, {N_USERS} users, 2 files" in out
    assert [line.removeprefix("ok           ") for line in out.splitlines()[1:]] == list(constraints.CONSTRAINTS)


def test_popular_items_need_no_explanation(release):
    publish(release, change(4, because=None, source="popularity")(rows(release.layout.run_id)))
    assert main(["check", str(release.layout.root)]) == 0


def test_a_night_from_before_explanations_is_not_checked_for_them(release, capsys, monkeypatch):
    old_schema(monkeypatch)
    publish(release, rows(release.layout.run_id))
    monkeypatch.undo()
    assert main(["check", str(release.layout.root)]) == 0
    out = capsys.readouterr().out
    for constraint in constraints.CONSTRAINTS:
        unchecked = f"not checked  {constraint}: published before the table had the column because" in out
        assert unchecked == (constraint in (constraints.EXPLAINED, constraints.EXPLANATIONS))


def test_a_user_who_has_seen_everything_may_be_missing(tmp_path, capsys):
    """User u0 has seen i1 and i2; with all others blocked, only u0 is excused."""
    context = finish_release(tmp_path)
    blocked = [f"i{i}" for i in range(3, N_ITEMS + 1)]
    (context.layout.stage("score", RELEASE) / "blocked.json").write_text(json.dumps(blocked))
    lists = [
        {**row, "item_id": "i1" if row["user_id"] != "u1" else "i2", "rank": 1}
        for row in rows(context.layout.run_id)[N::N]
    ]
    publish(context, [row for row in lists if row["user_id"] != "u1"])
    assert main(["check", str(tmp_path)]) == 10
    out = capsys.readouterr().out
    assert f"VIOLATED     {constraints.EVERY_USER}: 1 times, e.g. user_id='u1'" in out
    assert "; no item is left for 1 users" in out


def test_rows_may_be_in_any_order(release):
    publish(release, rows(release.layout.run_id)[::-1])
    assert main(["check", str(release.layout.root)]) == 0


def test_a_user_in_two_files_is_found(release, capsys):
    lists = rows(release.layout.run_id)
    publish(release, lists, lists[:N])
    assert main(["check", str(release.layout.root)]) == 10
    assert f"VIOLATED     {constraints.ONE_FILE}: 1 times, e.g. user_id='u0' item_id='i3'" in capsys.readouterr().out


def test_faults_of_several_files_are_counted_together(release, capsys):
    lists = change(1, source="guess")(change(10, source="guess")(rows(release.layout.run_id)))
    publish(release, lists[:9], lists[9:])
    assert main(["check", str(release.layout.root)]) == 10
    assert f"{constraints.SOURCES}: 2 times, e.g. user_id='u0' item_id='i4' rank=2" in capsys.readouterr().out


def test_without_the_run_s_folder_the_laws_of_the_run_are_left_open(tmp_path, capsys):
    context = finish_release(tmp_path)
    publish(context, rows(context.layout.run_id))
    shutil.rmtree(context.layout.run)
    assert main(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for constraint in constraints.CONSTRAINTS:
        assert (f"not checked  {constraint}: run folder {context.layout.run} is missing" in out) == (
            constraint in constraints.NEED_THE_RUN
        )


@pytest.mark.parametrize(("source", "code"), [("item_cosine", 0), ("user_cosine", 0), ("item_knn", 0), ("guess", 10)])
def test_sources_of_earlier_versions_stay_valid_when_the_run_is_gone(tmp_path, source, code):
    context = finish_release(tmp_path)
    publish(context, change(0, source=source)(rows(context.layout.run_id)))
    shutil.rmtree(context.layout.run)
    assert main(["check", str(tmp_path)]) == code


def test_a_run_that_has_changed_is_not_checked_against(tmp_path, capsys):
    context = finish_release(tmp_path)
    publish(context, rows(context.layout.run_id)[:-N])
    finish_release(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert (
        f"not checked  {constraints.EVERY_USER}: run folder {context.layout.run} has changed since "
        "the night was published" in out
    )
    assert f"ok           {constraints.RANKS}" in out


def test_one_night_of_several_is_picked(tmp_path, capsys):
    first, second = (finish_release(tmp_path, run_date=date(2026, 3, day)) for day in (1, 2))
    publish(first, change(0, source="guess")(rows(first.layout.run_id)))
    staged = [put_file(tmp_path / "staged", "second.parquet", rows(second.layout.run_id))]
    delta.publish(
        second.layout.top_n,
        staged,
        run_date=second.run_date,
        run_id=second.layout.run_id,
        output_id=manifest.require(second.layout, "score", RELEASE).output_id,
        expired=(),
    )
    assert main(["check", str(tmp_path)]) == 0
    assert "night 2026-03-02 of run 2026-03-02, version 1" in capsys.readouterr().out
    assert main(["check", str(tmp_path), "--run-date", "2026-03-01"]) == 10


def test_nothing_published_is_its_own_exit_code(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 9
    assert "error: " in (err := capsys.readouterr().err) and "holds no published table" in err
