"""From a batch of users to ranked lists: which models score whom, and what the lists contain."""

from dataclasses import replace

import numpy as np

from recsys_spark.fusion.blend import RRF, ZSCORE, Blend
from recsys_spark.fusion.fuse import Fusion
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.histories import Histories
from recsys_spark.rules.diversity import Diversification
from recsys_spark.stages.score.lists import CandidateSearch, ListRequest, Stopwatch, rank, score_candidates
from stages.score.fake_models import FakeModel, random_histories

N_ITEMS = 50
NAMES = ("popularity", "als", "network")
BLEND = Blend(ZSCORE, (0.25, 0.5, 0.25))


class NeedsHistory(FakeModel):
    """Refuses users without history, as a model with needs_history may."""

    def encode(self, histories):
        assert (histories.lengths() > 0).all(), "a user has no history"
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
    return CandidateSearch(**{"banned": banned, "candidates": 12, "tile": 16, **changes})


def request(blend=BLEND, names=NAMES, **changes):
    return ListRequest(Fusion(names, blend), **{"length": 6, "each_model": True, **changes})


def collect(lists, by_setting=False):
    """{(name, user): ([items], [scores], [sources])} without padding.

    With `by_setting`, keys have (diversity, maximum per category) instead of the name.
    """
    result = {}
    for r in lists:
        name = (r.diversification.diversity, r.diversification.max_per_category) if by_setting else r.name
        for user, items, scores, sources in zip(r.users, r.items, r.scores, r.sources):
            real = items > 0
            assert (name, int(user)) not in result
            names = [r.source_names[source] for source in sources[real]]
            result[name, int(user)] = (items[real].tolist(), scores[real].tolist(), names)
    return result


def ranked(histories, candidates=None, lists=None, using=None):
    return collect(rank(using or models(), histories, candidates or search(), lists or request()))


def test_every_user_gets_every_list_without_seen_or_banned_items():
    histories = random_histories(30, N_ITEMS, 40, 0)
    assert 0 in histories.lengths()
    lists = ranked(histories)
    assert set(lists) == {(name, user) for name in (*NAMES, "fused") for user in range(30)}
    for (_, user), (items, scores, _) in lists.items():
        seen = set(histories.items[histories.indptr[user] : histories.indptr[user + 1]].tolist())
        assert not set(items) & (seen | {0, 7, 8})
        assert len(items) == len(set(items)) == min(6, N_ITEMS - 1 - len(seen | {7, 8}))
        assert scores == sorted(scores, reverse=True)


def test_users_without_history_get_popularity_under_every_name():
    popular = models()["popularity"].arrays["prior"]
    best = sorted((i for i in range(1, N_ITEMS) if i not in (7, 8)), key=lambda i: (-popular[i], i))[:6]
    lists = ranked(Histories.of([[], [4, 5], []]))
    for name in (*NAMES, "fused"):
        for user in (0, 2):
            assert lists[name, user] == (best, [popular[i] for i in best], ["popularity"] * 6)


def test_the_segment_of_a_user_without_history_counts():
    class Segments(FakeModel):
        def encode(self, histories):
            return np.array([[0, 1, 2, 3] if s == "up" else [0, 3, 2, 1] for s in histories.segments], np.float32)

    histories = replace(Histories.of([[], []]), segments=["up", None])
    allowed = search(banned=np.array([True, False, False, False]))
    list_request = request(blend=Blend(ZSCORE, (1.0,)), names=("popularity",), each_model=False)
    lists = ranked(histories, allowed, list_request, {"popularity": Segments(4, kind="popularity")})
    assert [lists["fused", user][0] for user in (0, 1)] == [[3, 2, 1], [1, 2, 3]]


def test_without_each_model_there_are_only_fused_lists():
    histories = random_histories(5, N_ITEMS, 9, 1)
    every = ranked(histories)
    fused = {key: row for key, row in every.items() if key[0] == "fused"}
    assert ranked(histories, lists=request(each_model=False)) == fused


def test_a_model_outside_the_fusion_has_a_list_and_does_not_change_the_fused_one():
    histories = random_histories(20, N_ITEMS, 9, 2)
    without = {name: model for name, model in models().items() if name != "als"}
    list_request = request(blend=Blend(ZSCORE, (0.25, 0.75)), names=("popularity", "network"))
    lists, every, expected = (
        ranked(histories, lists=list_request),
        ranked(histories),
        ranked(histories, lists=list_request, using=without),
    )
    for user in range(20):
        assert lists["als", user] == every["als", user]
        assert lists["fused", user] == expected["fused", user]


def test_all_weight_on_one_model_gives_the_list_of_that_model():
    """The items and their order are the same; the scores are normalised."""
    histories = random_histories(20, N_ITEMS, 9, 2)
    for method in (ZSCORE, RRF):
        lists = ranked(histories, lists=request(blend=Blend(method, (0.0, 1.0, 0.0))))
        for user in range(20):
            assert lists["fused", user][0] == lists["als", user][0]


def test_every_model_scores_the_union_of_all_candidates():
    histories = Histories.of([[3], [4, 9, 20], [1, 2]])
    candidates = score_candidates(models(), histories, search(), NAMES, Stopwatch())
    lists = ranked(histories, lists=request(length=12))
    for user in range(3):
        items = candidates.items[user][candidates.items[user] > 0]
        assert items.tolist() == sorted(set().union(*(lists[name, user][0] for name in NAMES)))
        for number, name in enumerate(NAMES):
            best = sorted(zip(-candidates.scores[number, user], items))[:12]
            assert ([i for _, i in best], [-s for s, _ in best]) == lists[name, user][:2]


def test_any_batch_and_tile_give_the_same_lists():
    histories = random_histories(23, N_ITEMS, 12, 4)
    whole = ranked(histories)
    for size, tile in ((1, 7), (5, 1000), (23, 3)):
        parts = {}
        for start, batch in zip(range(0, 23, size), histories.batches(size)):
            lists = ranked(batch, search(tile=tile))
            parts |= {(name, user + start): row for (name, user), row in lists.items()}
        assert parts == whole


def diversification(diversity=0.3, max_per_category=2):
    """Item i has the category i % 9."""
    indptr = np.concatenate([[0], np.arange(N_ITEMS)])
    categories = Categories(indptr, (np.arange(1, N_ITEMS) % 9).astype(np.int32), 9)
    return Diversification(diversity, max_per_category, categories)


def test_fused_lists_are_diversified_and_those_of_the_models_are_not():
    histories = random_histories(30, N_ITEMS, 30, 0)
    plain = ranked(histories)
    lists = ranked(histories, lists=request(diversifications=[diversification()]))
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
            assert sources == ["popularity"] * 6  # the popular items are diversified as well
    assert changed > 20


def test_each_diversification_makes_a_list_with_the_sources_of_its_items():
    histories = random_histories(9, N_ITEMS, 9, 3)
    settings = [diversification(0.0, None), diversification(0.5, None)]
    list_request = request(diversifications=settings, each_model=False, explained=True)
    lists = collect(rank(models(), histories, search(), list_request), by_setting=True)
    assert {setting for setting, _ in lists} == {(0.0, None), (0.5, None)}
    plain = ranked(histories, lists=request(each_model=False, explained=True))
    long = ranked(histories, lists=request(each_model=False, explained=True, length=36))
    for user in range(9):
        assert lists[(0.0, None), user] == plain["fused", user]
        source = dict(zip(long["fused", user][0], long["fused", user][2]))
        items, _, sources = lists[(0.5, None), user]
        assert sources == [source[item] for item in items]
    assert any(lists[(0.5, None), user] != lists[(0.0, None), user] for user in range(9))
