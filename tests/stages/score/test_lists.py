"""A batch of users to ranked lists: who is asked, what is shown."""

import numpy as np

from recsys_spark.fusion.blend import RRF, ZSCORE, Blend, Fusion
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.histories import Histories
from recsys_spark.rules.diversity import Variety
from recsys_spark.stages.score.lists import Search, Wanted, Watch, rank, score_candidates
from stages.score.fake_models import FakeModel, random_histories

N_ITEMS = 50
NAMES = ("popularity", "als", "network")
BLEND = Blend(ZSCORE, (0.25, 0.5, 0.25))


class NeedsHistory(FakeModel):
    """Refuses users without history, as a model with needs_history may."""

    def encode(self, histories):
        assert (histories.lengths() > 0).all(), "asked about a user without history"
        return super().encode(histories)


def models():
    return {
        "popularity": FakeModel(N_ITEMS, 1, "popularity", table=np.zeros((N_ITEMS, N_ITEMS), np.float32)),
        "als": NeedsHistory(N_ITEMS, 2, "als"),
        "network": NeedsHistory(N_ITEMS, 3, "network"),
    }


def search(**changes):
    banned = np.zeros(N_ITEMS, bool)
    banned[[0, 7, 8]] = True
    return Search(**{"banned": banned, "candidates": 12, "tile": 16, **changes})


def wanted(blend=BLEND, names=NAMES, **changes):
    return Wanted(Fusion(names, blend), **{"length": 6, "each": True, **changes})


def collect(found, by_setting=False):
    """{(name, user): ([items], [scores], [sources])} without padding; `by_setting`: (diversity, cap) instead of the name."""
    lists = {}
    for r in found:
        for user, items, scores, sources in zip(r.users, r.items, r.scores, r.sources):
            real = items > 0
            name = (r.variety.diversity, r.variety.cap) if by_setting else r.name
            assert (name, int(user)) not in lists
            lists[name, int(user)] = (items[real].tolist(), scores[real].tolist(), sources[real].tolist())
    return lists


def test_every_user_gets_every_list_without_seen_or_banned_items():
    histories = random_histories(30, N_ITEMS, 40, 0)
    assert 0 in histories.lengths()
    lists = collect(rank(models(), histories, search(), wanted()))
    assert set(lists) == {(name, user) for name in (*models(), "fused") for user in range(30)}
    for (_, user), (items, scores, _) in lists.items():
        seen = set(histories.items[histories.indptr[user] : histories.indptr[user + 1]].tolist())
        assert not set(items) & (seen | {0, 7, 8})
        assert len(items) == len(set(items)) == min(6, N_ITEMS - 1 - len(seen | {7, 8}))
        assert scores == sorted(scores, reverse=True)


def test_users_without_history_get_popularity_under_every_name():
    histories = Histories.of([[], [4, 5], []])
    popular = models()["popularity"].arrays["prior"]
    best = sorted((i for i in range(1, N_ITEMS) if i not in (7, 8)), key=lambda i: (-popular[i], i))[:6]
    lists = collect(rank(models(), histories, search(), wanted()))
    for name in (*models(), "fused"):
        for user in (0, 2):
            assert lists[name, user] == (best, [popular[i] for i in best], [0] * 6)


def test_the_segment_of_a_user_without_history_is_kept():
    class Segments(FakeModel):
        def encode(self, histories):
            return np.array([[0, 1, 2, 3] if s == "up" else [0, 3, 2, 1] for s in histories.segments], np.float32)

    histories = Histories(
        np.zeros(3, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        ["up", None],
    )
    where = search(banned=np.array([True, False, False, False]))
    what = wanted(blend=Blend(ZSCORE, (1.0,)), names=("popularity",), each=False)
    lists = collect(rank({"popularity": Segments(4, kind="popularity")}, histories, where, what))
    assert [lists["fused", user][0] for user in (0, 1)] == [[3, 2, 1], [1, 2, 3]]


def test_only_the_fused_list_when_only_that_is_asked():
    histories = random_histories(5, N_ITEMS, 9, 1)
    every = collect(rank(models(), histories, search(), wanted()))
    assert collect(rank(models(), histories, search(), wanted(each=False))) == {
        k: v for k, v in every.items() if k[0] == "fused"
    }


def test_a_model_that_is_not_fused_has_its_own_list_and_no_say():
    histories = random_histories(20, N_ITEMS, 9, 2)
    without = {name: model for name, model in models().items() if name != "als"}
    what = {"blend": Blend(ZSCORE, (0.25, 0.75)), "names": ("popularity", "network")}
    found = collect(rank(models(), histories, search(), wanted(**what)))
    every = collect(rank(models(), histories, search(), wanted()))
    expected = collect(rank(without, histories, search(), wanted(**what)))
    for user in range(20):
        assert found["als", user] == every["als", user]
        items, scores, sources = found["fused", user]
        assert (items, scores) == expected["fused", user][:2]
        # numbers of the models that are there: network is the third of these, the second of those
        assert sources == [{0: 0, 1: 2}[source] for source in expected["fused", user][2]]


def test_the_blend_s_vertex_is_the_model_s_own_list():
    """Items and order; the fused scores are standard scores."""
    histories = random_histories(20, N_ITEMS, 9, 2)
    for method in (ZSCORE, RRF):
        lists = collect(rank(models(), histories, search(), wanted(blend=Blend(method, (0.0, 1.0, 0.0)))))
        for user in range(20):
            assert lists["fused", user][0] == lists["als", user][0]


def test_for_learning_every_model_scores_the_union_of_all_candidates():
    histories = Histories.of([[3], [4, 9, 20], [1, 2]])
    found = score_candidates(models(), histories, search(), NAMES, Watch())
    own = collect(rank(models(), histories, search(), wanted(length=12)))
    for user in range(3):
        items = found.items[user][found.items[user] > 0]
        assert items.tolist() == sorted(set().union(*(own[name, user][0] for name in models())))
        for number, name in enumerate(models()):
            best = sorted(zip(-found.scores[number, user], items))[:12]
            assert ([i for _, i in best], [-s for s, _ in best]) == own[name, user][:2]


def test_any_batch_and_tile_give_the_same_lists():
    histories = random_histories(23, N_ITEMS, 12, 4)
    whole = collect(rank(models(), histories, search(), wanted()))
    for size, tile in ((1, 7), (5, 1000), (23, 3)):
        parts = {}
        for start, batch in zip(range(0, 23, size), histories.batches(size)):
            parts.update(
                {
                    (name, user + start): v
                    for (name, user), v in collect(rank(models(), batch, search(tile=tile), wanted())).items()
                }
            )
        assert parts == whole


def varied(diversity=0.3, cap=2):
    """Item i has the category i % 9."""
    indptr = np.concatenate([[0], np.arange(N_ITEMS)])
    return Variety(diversity, cap, Categories(indptr, (np.arange(1, N_ITEMS) % 9).astype(np.int32), 9))


def test_fused_lists_are_spread_out_and_those_of_the_models_are_not():
    histories = random_histories(30, N_ITEMS, 30, 0)
    plain = collect(rank(models(), histories, search(), wanted()))
    lists = collect(rank(models(), histories, search(), wanted(varieties=[varied()])))
    assert set(lists) == set(plain)
    changed = 0
    for (name, user), (items, scores, sources) in lists.items():
        if name != "fused":
            assert (items, scores, sources) == plain[name, user]
            continue
        changed += items != plain[name, user][0]
        assert max(np.bincount(np.array(items) % 9)) <= 2
        assert scores == sorted(scores, reverse=True)
        if not histories.lengths()[user]:
            assert sources == [0] * 6  # no history: popularity's list, spread out like any other
    assert changed > 20


def test_several_varieties_are_lists_of_their_own():
    histories = random_histories(9, N_ITEMS, 9, 3)
    what = wanted(varieties=[varied(0.0, None), varied(0.5, None)], each=False, reasons=True)
    lists = collect(rank(models(), histories, search(), what), by_setting=True)
    assert {setting for setting, _ in lists} == {(0.0, None), (0.5, None)}
    plain = collect(rank(models(), histories, search(), wanted(each=False, reasons=True)))
    for user in range(9):
        assert lists[(0.0, None), user] == plain["fused", user]
    assert any(lists[(0.5, None), user] != lists[(0.0, None), user] for user in range(9))
