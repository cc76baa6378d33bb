"""Explanations: which model explains an item, and when there is no explanation."""

from dataclasses import replace

import numpy as np

from recsys_spark.fusion.blend import RRF, ZSCORE, Blend
from recsys_spark.models.histories import Histories
from recsys_spark.stages.score.because import explain
from recsys_spark.stages.score.lists import rank
from stages.score.fake_models import FakeModel, random_histories
from stages.score.test_lists import N_ITEMS, collect, models, request, search


def explained(tables, histories, items, contributions):
    """`explain` with fake models of these tables [I, I], the first of which is popularity."""
    names = ("popularity", "als", "network")
    models = {name: FakeModel(len(table), kind=name, table=table) for name, table in zip(names, tables)}
    encoded = {name: model.encode(histories) for name, model in models.items()}
    return explain(models, histories, encoded, np.array(items, np.int32), np.array(contributions, np.float32))


def table_of(**cells):
    """A table [7, 7] with table[j, i] = value for each key xj_i."""
    table = np.zeros((7, 7), np.float32)
    for key, value in cells.items():
        j, i = key[1:].split("_")
        table[int(j), int(i)] = value
    return table


NOTHING = table_of()


def test_the_source_explains_first():
    als, network = table_of(x1_4=1, x2_4=2, x1_5=1), table_of(x1_4=9, x2_5=9)
    contributions = [[[0.1, 0.1]], [[0.5, 0.5]], [[0.4, 0.4]]]
    because, sources = explained([NOTHING, als, network], Histories.of([[1, 2]]), [[4, 5]], contributions)
    assert (because.tolist(), sources.tolist()) == ([[2, 1]], [[1, 1]])


def test_if_the_source_cannot_explain_the_next_model_does_and_the_source_stays():
    als, network = table_of(x1_4=1), table_of(x2_5=1)
    contributions = [[[0.1, 0.3]], [[0.5, 0.5]], [[0.4, -0.2]]]
    because, sources = explained([NOTHING, als, network], Histories.of([[1, 2]]), [[4, 5]], contributions)
    assert (because.tolist(), sources.tolist()) == ([[1, 2]], [[1, 1]])


def test_a_model_without_weight_does_not_explain():
    contributions = [[[0.1]], [[0.5]], [[-np.inf]]]
    tables = [NOTHING, NOTHING, table_of(x1_4=1)]
    because, sources = explained(tables, Histories.of([[1]]), [[4]], contributions)
    assert (because.tolist(), sources.tolist()) == ([[0]], [[0]])


def test_popular_and_unexplained_items_have_popularity_as_their_source():
    contributions = [[[0.6, 0.1, -1]], [[0.5, 0.5, -2]], [[0.4, 0.4, -3]]]
    because, sources = explained([NOTHING, table_of(x1_4=1), NOTHING], Histories.of([[1]]), [[4, 5, 0]], contributions)
    assert (because.tolist(), sources.tolist()) == ([[0, 0, 0]], [[0, 0, 0]])


def rows(lists):
    """{user: [(item, source, because)]} without padding."""
    return {
        int(user): [row for row in zip(*(a[at].tolist() for a in (r.items, r.sources, r.because))) if row[0]]
        for r in lists
        for at, user in enumerate(r.users)
    }


def test_items_are_explained_by_the_user_s_history_in_any_batch():
    histories = random_histories(23, N_ITEMS, 12, 4)
    for method in (ZSCORE, RRF):
        explaining = request(each_model=False, explained=True, blend=Blend(method, (0.375, 0.3125, 0.3125)))
        whole = rows(rank(models(), histories, search(), explaining))
        plain = collect(rank(models(), histories, search(), replace(explaining, explained=False)))
        assert {user: [item for item, *_ in row] for user, row in whole.items()} == {
            user: items for (_, user), (items, *_) in plain.items()
        }
        warm = {user: row for user, row in whole.items() if histories.lengths()[user]}
        assert {source for row in warm.values() for _, source, _ in row} == {0, 1, 2}
        for user, row in whole.items():
            history = histories.items[histories.indptr[user] : histories.indptr[user + 1]].tolist()
            for _, source, because in row:
                assert (because in history) if source else because == 0
        for size in (1, 5):
            parts = {}
            for start, batch in zip(range(0, 23, size), histories.batches(size)):
                lists = rows(rank(models(), batch, search(), explaining))
                parts |= {user + start: row for user, row in lists.items()}
            assert parts == whole
