"""The Spark shell: the lists are those of the pure kernel, however the users are cut."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from factories import put_table
from fusion.synthetic_sample import popularity_of
from recsys_spark import registry as item_models
from recsys_spark.columns import TEST
from recsys_spark.fusion.blend import ZSCORE, Blend, Fusion
from recsys_spark.fusion.sample import Sample
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.histories import Histories
from recsys_spark.stages.score.all_users import Crew, list_rows, sample_candidates, score_users, stopwatch
from recsys_spark.stages.score.lists import Search, Wanted, Watch, rank, score_candidates
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import tables
from stages.score.synthetic_models import MODELS, N_ITEMS, N_USERS, histories, put_models

BANNED = np.isin(np.arange(N_ITEMS), [0, 5])
SEARCH = Search(BANNED, candidates=8, tile=1000)
WANTED = Wanted(
    Fusion(MODELS, Blend(ZSCORE, (0.125, 0.25, 0.125, 0.125, 0.125, 0.125, 0.125))),
    length=4,
    each=True,
    reasons=True,
)
KEY = ["user_idx", "model", "rank"]


def batch_of(rows):
    return Histories.from_arrow(pa.Table.from_pylist(rows, schema=contracts.load("histories").arrow_schema()))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return put_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def table(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "histories"
    put_table(folder, "histories", histories((TEST,)))
    return tables.read(spark, folder, "histories").where("as_of = 'test'").persist()


@pytest.fixture(scope="module")
def expected(folders):
    """The lists by the kernel, all users in one batch."""
    opened = {name: item_models.load(folder) for name, folder in folders.items()}
    ranked = rank(opened, batch_of(histories((TEST,))), SEARCH, WANTED)
    parts = [list_rows(r, np.arange(N_USERS), list(MODELS)) for r in ranked]
    return pa.Table.from_batches(parts).to_pandas().sort_values(KEY, ignore_index=True)


@pytest.mark.parametrize(("batch", "partitions", "tile"), [(1000, 1, 1000), (7, 3, 10), (1, 5, 8)])
def test_any_batch_partition_count_and_tile_give_the_kernel_s_lists(table, folders, expected, batch, partitions, tile):
    lists = score_users(table, Crew(folders, batch, partitions), replace(SEARCH, tile=tile), WANTED)
    found = lists.toPandas().sort_values(KEY, ignore_index=True)
    names = ["user_idx", "model", "rank", "item_idx", "source", "because"]
    assert len(found) == N_USERS * 4 * (len(MODELS) + 1)
    assert found[names].fillna(0).values.tolist() == expected[names].fillna(0).values.tolist()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5, atol=1e-6)


def test_the_sample_is_every_model_s_scores_of_the_candidates(table, folders):
    """Each user's own index is held out, and an item that is none."""
    known = table.where("size(item_idx) > 0").selectExpr("*", "array(cast(user_idx as int), 99) as held_out")
    rows = sample_candidates(known, Crew(folders, batch=3, partitions=2), SEARCH).toArrow()
    sample = Sample.of(rows, MODELS, popularity_of(N_ITEMS), Categories.none(N_ITEMS), SEARCH.candidates)
    asked = [row for row in histories((TEST,)) if row["item_idx"]]
    opened = {name: item_models.load(folder) for name, folder in folders.items()}
    expected = score_candidates(opened, batch_of(asked), SEARCH, MODELS, Watch())
    assert sample.users.tolist() == [row["user_idx"] for row in asked]
    known = sample.traits.histories
    assert known.lengths().tolist() == [len(row["item_idx"]) for row in asked]
    assert known.items.tolist() == [item for row in asked for item in row["item_idx"]]
    assert known.segments == [row["segment"] for row in asked]
    assert set(sample.held_out) == {2}
    telling = 0
    for u, row in enumerate(asked):
        real = expected.items[u] > 0
        lo, hi = sample.rows.starts[u], sample.rows.starts[u] + sample.rows.lengths[u]
        if row["user_idx"] not in expected.items[u]:
            assert lo == hi
            continue
        telling += 1
        np.testing.assert_array_equal(sample.items[lo:hi], expected.items[u, real])
        np.testing.assert_array_equal(sample.scores[:, lo:hi], expected.scores[:, u, real])
        assert sample.items[lo:hi][sample.relevant[lo:hi]].tolist() == [row["user_idx"]]
        for m, name in enumerate(MODELS):
            assert set(sample.items[lo:hi][sample.listed[m, lo:hi]]) == set(expected.best[name][0][u]) - {0}
    assert 5 < telling == len(sample.telling) < len(asked)


def test_the_stopwatch_counts_every_model_and_the_fusion(spark, table, folders):
    spent = stopwatch(spark.sparkContext)
    score_users(table, Crew(folders, 7, 3), SEARCH, WANTED, spent).collect()
    assert set(spent.value) == {*MODELS, "fused"}
    assert all(0 < seconds < 100 for seconds in spent.value.values())


def test_the_lists_are_those_of_their_users(expected):
    for row in histories((TEST,)):
        own = expected[expected["user_idx"] == row["user_idx"]]
        assert not set(own["item_idx"]) & {*row["item_idx"], 0, 5}
        assert (set(own["source"]) == {"popularity"}) == (not row["item_idx"])
        fused = own[own["model"] == "fused"]
        assert set(fused["because"].dropna()) <= set(row["item_idx"])
        assert (fused["because"].isna() == (fused["source"] == "popularity")).all()
    assert expected["because"].nunique() > 10 and expected[expected["model"] != "fused"]["because"].isna().all()


def test_workers_compute_with_one_thread(spark):
    def threads(batches):
        import os

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"threads": [os.environ["OMP_NUM_THREADS"]]})

    assert {row.threads for row in spark.range(2).mapInArrow(threads, "threads string").collect()} == {"1"}
