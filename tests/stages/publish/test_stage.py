"""The publish stage in Spark: the night as files, one commit, and obedience to the verdict."""

import shutil
from datetime import date

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from recsys_spark.columns import RELEASE
from recsys_spark.errors import ContractViolation, GateFailed, PublishConflict, StageMissing
from recsys_spark.stages.publish import stage
from recsys_spark.stages.publish.targets import delta
from recsys_spark.storage import manifest
from stages.publish.synthetic_table import N_USERS, N, finish_release, rows
from stages.publish.test_delta import as_delta


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory):
    """A night published once."""
    context = finish_release(tmp_path_factory.mktemp("published"), spark, publish={"files": 2})
    stage.run(context, RELEASE)
    return context


def state(context):
    """Version, and every live row."""
    return DeltaTable(context.layout.top_n).version(), as_delta(context.layout.top_n)


def test_the_table_is_the_release_s_top_n(published):
    version, live = state(published)
    assert live == [{**row, "run_date": published.run_date} for row in rows(published.layout.run_id)]
    done = manifest.read(published.layout.stage("publish", RELEASE))
    night = delta.night(published.layout.top_n)
    assert done.counts == {
        "rows": N_USERS * N, "users": N_USERS, "version": version, "files": 2, "bytes": night.bytes, "vacuumed": 0,
    }  # fmt: skip
    assert not (published.layout.stage("publish", RELEASE) / "top_n").exists()


def test_files_are_sorted_and_share_no_user(published):
    files = delta.night(published.layout.top_n).files
    users = [pq.read_table(file)["user_id"].to_pylist() for file in files]
    assert all(own == sorted(own) for own in users)
    assert not set(users[0]) & set(users[1])
    assert all(
        pq.read_table(file)["rank"].to_pylist() == [1, 2, 3] * (len(own) // N) for file, own in zip(files, users)
    )


@pytest.mark.parametrize("how", ["skipped", "forced", "manifest lost"])
def test_the_same_run_again_is_no_second_copy(published, how):
    before = state(published)
    if how == "manifest lost":  # killed between the commit and the manifest
        published.layout.manifest("publish", RELEASE).unlink()
    published.force = how == "forced"
    stage.run(published, RELEASE)
    published.force = False
    assert state(published) == before
    assert manifest.require(published.layout, "publish", RELEASE).counts["rows"] == N_USERS * N


def test_a_new_output_of_the_run_replaces_its_night(spark, tmp_path):
    stage.run(finish_release(tmp_path, spark), RELEASE)
    again = finish_release(tmp_path, spark, lists=rows("2026-03-01", version="v2"))
    stage.run(again, RELEASE)
    version, live = state(again)
    assert version == 1
    assert {row["model_version"] for row in live} == {"v2"}
    assert len(live) == N_USERS * N


def test_nights_beyond_the_kept_leave(spark, tmp_path):
    for day in (1, 2, 3):
        stage.run(finish_release(tmp_path, spark, run_date=date(2026, 3, day), publish={"keep_nights": 2}), RELEASE)
    assert delta.nights(tmp_path / "top_n") == [date(2026, 3, 2), date(2026, 3, 3)]
    assert DeltaTable(tmp_path / "top_n").version() == 2


def test_a_failed_gate_publishes_nothing(tmp_path):
    context = finish_release(tmp_path, passed=False)  # without Spark: it must not be asked
    with pytest.raises(GateFailed) as caught:
        stage.run(context, RELEASE)
    assert "min_ndcg: fused NDCG@10 is 0.05 (value 0.05, limit 0.1)" in str(caught.value)
    assert "min_coverage" not in str(caught.value)
    assert not context.layout.top_n.exists()


def test_a_gate_that_fails_after_a_publication_leaves_the_table(published):
    before = state(published)
    verdict = published.layout.table("evaluate", RELEASE, "verdict.json")
    kept = verdict.read_text()
    verdict.write_text(kept.replace('"passed": true', '"passed": false', 1))
    with pytest.raises(GateFailed):
        stage.run(published, RELEASE)
    verdict.write_text(kept)
    assert state(published) == before


def test_a_missing_verdict_or_stage_is_told(tmp_path):
    context = finish_release(tmp_path)
    context.layout.table("evaluate", RELEASE, "verdict.json").unlink()
    with pytest.raises(StageMissing, match=r"verdict\.json cannot be read"):
        stage.run(context, RELEASE)
    shutil.rmtree(context.layout.stage("score", RELEASE))
    with pytest.raises(StageMissing, match="no finished score stage"):
        stage.run(context, RELEASE)


def test_a_broken_law_stops_the_publication(spark, tmp_path):
    lists = [{**row, "source": "guess"} if row["rank"] == 2 else row for row in rows("2026-03-01")]
    context = finish_release(tmp_path, spark, lists=lists)
    with pytest.raises(
        ContractViolation,
        match=r"violates constraints: each row's source is a known model: violated 6 times, e.g. user_id='u0' item",
    ):
        stage.run(context, RELEASE)
    assert not context.layout.top_n.exists()


def test_a_folder_of_somebody_else_is_told_before_any_work(tmp_path):
    context = finish_release(tmp_path)  # without Spark: it must not be asked
    context.layout.top_n.mkdir()
    (context.layout.top_n / "notes.txt").write_text("mine")
    with pytest.raises(PublishConflict, match="holds notes.txt"):
        stage.run(context, RELEASE)
