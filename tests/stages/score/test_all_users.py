"""The Spark shell: its lists equal those of lists.py, for any batch size, number of tasks and tile."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from factories import put_table
from fusion.synthetic_sample import popularity_of
from recsys_spark import registry
from recsys_spark.columns import TEST
from recsys_spark.fusion.blend import ZSCORE, Blend
from recsys_spark.fusion.fuse import Fusion
from recsys_spark.fusion.sample import Sample
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.histories import Histories
from recsys_spark.stages.score.all_users import (
    ScoringPlan,
    list_rows,
    sample_candidates,
    score_users,
    seconds_by_model,
)
from recsys_spark.stages.score.lists import CandidateSearch, ListRequest, Stopwatch, rank, score_candidates
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import tables
from stages.score.synthetic_models import MODELS, N_ITEMS, N_USERS, histories, put_models

BANNED = np.isin(np.arange(N_ITEMS), [0, 5])
SEARCH = CandidateSearch(BANNED, candidates=8, tile=1000)
REQUEST = ListRequest(
    Fusion(MODELS, Blend(ZSCORE, (0.125, 0.25, 0.125, 0.125, 0.125, 0.125, 0.125))),
    length=4,
    each_model=True,
    explained=True,
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
    """The lists of lists.py, all users in one batch."""
    models = {name: registry.load(folder) for name, folder in folders.items()}
    ranked = rank(models, batch_of(histories((TEST,))), SEARCH, REQUEST)
    parts = [list_rows(lists, np.arange(N_USERS)) for lists in ranked]
    return pa.Table.from_batches(parts).to_pandas().sort_values(KEY, ignore_index=True)


@pytest.mark.parametrize(("batch", "partitions", "tile"), [(1000, 1, 1000), (7, 3, 10), (1, 5, 8)])
def test_any_batch_partition_count_and_tile_give_the_same_lists(table, folders, expected, batch, partitions, tile):
    lists = score_users(table, ScoringPlan(folders, batch, partitions), replace(SEARCH, tile=tile), REQUEST)
    result = lists.toPandas().sort_values(KEY, ignore_index=True)
    names = ["user_idx", "model", "rank", "item_idx", "source", "because"]
    assert len(result) == N_USERS * 4 * (len(MODELS) + 1)
    assert result[names].fillna(0).values.tolist() == expected[names].fillna(0).values.tolist()
    np.testing.assert_allclose(result["score"], expected["score"], rtol=1e-5, atol=1e-6)


def test_the_sample_has_every_model_s_scores_of_the_candidates(table, folders):
    """The held-out items are the user's own index and an item that does not exist."""
    warm = table.where("size(item_idx) > 0").selectExpr("*", "array(cast(user_idx as int), 99) as held_out")
    rows = sample_candidates(warm, ScoringPlan(folders, batch=3, partitions=2), SEARCH).toArrow()
    sample = Sample.of(rows, MODELS, popularity_of(N_ITEMS), Categories.none(N_ITEMS), SEARCH.candidates)
    users = [row for row in histories((TEST,)) if row["item_idx"]]
    models = {name: registry.load(folder) for name, folder in folders.items()}
    candidates = score_candidates(models, batch_of(users), SEARCH, MODELS, Stopwatch())
    informative = [u for u, row in enumerate(users) if row["user_idx"] in candidates.items[u]]
    assert 5 < len(informative) < len(users) == sample.n_users
    assert sample.users.tolist() == [users[u]["user_idx"] for u in informative]
    assert set(sample.held_out) == {2}
    assert sample.user_item.lengths.tolist() == [len(users[u]["item_idx"]) for u in informative]
    for at, u in enumerate(informative):
        real, n = candidates.items[u] > 0, np.count_nonzero(candidates.items[u])
        np.testing.assert_array_equal(sample.items[at, :n], candidates.items[u, real])
        np.testing.assert_array_equal(sample.scores[:, at, :n], candidates.scores[:, u, real])
        assert not sample.items[at, n:].any()
        assert sample.items[at][sample.relevant[at]].tolist() == [users[u]["user_idx"]]
        for m, name in enumerate(MODELS):
            assert set(sample.items[at][sample.listed[m, at]]) == set(candidates.top[name][0][u]) - {0}


def test_seconds_are_counted_for_every_model_and_the_fusion(spark, table, folders):
    seconds = seconds_by_model(spark.sparkContext)
    score_users(table, ScoringPlan(folders, 7, 3), SEARCH, REQUEST, seconds).collect()
    assert set(seconds.value) == {*MODELS, "fused"}
    assert all(0 < value < 100 for value in seconds.value.values())


def test_lists_follow_the_history_of_their_user(expected):
    for row in histories((TEST,)):
        lists = expected[expected["user_idx"] == row["user_idx"]]
        assert not set(lists["item_idx"]) & {*row["item_idx"], 0, 5}
        assert (set(lists["source"]) == {"popularity"}) == (not row["item_idx"])
        fused = lists[lists["model"] == "fused"]
        assert set(fused["because"].dropna()) <= set(row["item_idx"])
        assert (fused["because"].isna() == (fused["source"] == "popularity")).all()
    assert expected["because"].nunique() > 10 and expected[expected["model"] != "fused"]["because"].isna().all()


def test_workers_compute_with_one_thread(spark):
    def threads(batches):
        import os

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"threads": [os.environ["OMP_NUM_THREADS"]]})

    assert {row.threads for row in spark.range(2).mapInArrow(threads, "threads string").collect()} == {"1"}
