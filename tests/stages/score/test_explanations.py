"""Why an item is listed: whose reason it is, and when there is none."""

import numpy as np

from recsys_spark.fusion.blend import RRF, ZSCORE, Blend
from recsys_spark.models.histories import Histories
from recsys_spark.stages.score.explanations import explain
from recsys_spark.stages.score.lists import rank
from stages.score.fake_models import FakeModel, random_histories
from stages.score.test_lists import N_ITEMS, models, search, wanted


def told(tables, histories, items, shares):
    """`explain` over fake models with these tables [I, I]; the first is popularity."""
    crew = {
        name: FakeModel(len(table), kind=name, table=table)
        for name, table in zip(("popularity", "als", "network"), tables)
    }
    encoded = {name: model.encode(histories) for name, model in crew.items()}
    return explain(crew, histories, encoded, np.array(items, np.int32), np.array(shares, np.float32))


def table_of(**cells):
    """[7, 7], with table[j, i] for the key "j_i" behind a letter."""
    table = np.zeros((7, 7), np.float32)
    for key, value in cells.items():
        j, i = key[1:].split("_")
        table[int(j), int(i)] = value
    return table


NOTHING = table_of()


def test_the_source_s_own_reason_comes_first():
    als, network = table_of(x1_4=1, x2_4=2, x1_5=1), table_of(x1_4=9, x2_5=9)
    shares = [[[0.1, 0.1]], [[0.5, 0.5]], [[0.4, 0.4]]]
    reasons, sources = told([NOTHING, als, network], Histories.of([[1, 2]]), [[4, 5]], shares)
    assert (reasons.tolist(), sources.tolist()) == ([[2, 1]], [[1, 1]])


def test_a_source_without_one_lets_the_next_speak_but_stays_the_source():
    als, network = table_of(x1_4=1), table_of(x2_5=1)
    shares = [[[0.1, 0.3]], [[0.5, 0.5]], [[0.4, -0.2]]]
    reasons, sources = told([NOTHING, als, network], Histories.of([[1, 2]]), [[4, 5]], shares)
    assert (reasons.tolist(), sources.tolist()) == ([[1, 2]], [[1, 1]])


def test_a_model_without_weight_is_not_asked():
    shares = [[[0.1]], [[0.5]], [[-np.inf]]]
    reasons, sources = told([NOTHING, NOTHING, table_of(x1_4=1)], Histories.of([[1]]), [[4]], shares)
    assert (reasons.tolist(), sources.tolist()) == ([[0]], [[0]])


def test_what_is_popular_or_what_nothing_speaks_for_has_no_reason():
    als = table_of(x1_4=1)
    shares = [[[0.6, 0.1, -1]], [[0.5, 0.5, -2]], [[0.4, 0.4, -3]]]
    reasons, sources = told([NOTHING, als, NOTHING], Histories.of([[1]]), [[4, 5, 0]], shares)
    assert (reasons.tolist(), sources.tolist()) == ([[0, 0, 0]], [[0, 0, 0]])


def rows(found):
    """{user: [(item, source, reason)]} without padding."""
    return {
        int(user): [row for row in zip(*(a[at].tolist() for a in (r.items, r.sources, r.reasons))) if row[0]]
        for r in found
        for at, user in enumerate(r.users)
        if r.reasons is not None
    }


def test_listed_items_have_reasons_of_the_user_s_own_in_any_batch():
    histories = random_histories(23, N_ITEMS, 12, 4)
    for method in (ZSCORE, RRF):
        what = wanted(each=False, reasons=True, blend=Blend(method, (0.375, 0.3125, 0.3125)))
        whole = rows(rank(models(), histories, search(), what))
        plain = rank(models(), histories, search(), wanted(each=False, blend=what.fusion.blend))
        items = {int(u): own[own > 0].tolist() for r in plain for u, own in zip(r.users, r.items)}
        assert {user: [item for item, *_ in own] for user, own in whole.items()} == {
            user: own for user, own in items.items() if user in whole
        }
        assert set(whole) == set(np.flatnonzero(histories.lengths()).tolist())
        kinds = {source for own in whole.values() for _, source, _ in own}
        assert kinds == {0, 1, 2}
        for user, own in whole.items():
            history = histories.items[histories.indptr[user] : histories.indptr[user + 1]].tolist()
            for _, source, reason in own:
                assert (reason in history) if source else reason == 0
        for size in (1, 5):
            parts = {}
            for start, batch in zip(range(0, 23, size), histories.batches(size)):
                found = rows(rank(models(), batch, search(), what))
                parts |= {user + start: own for user, own in found.items()}
            assert parts == whole
