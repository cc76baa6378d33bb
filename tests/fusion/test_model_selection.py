"""Dropping models and shipping a ranker, in worlds where it is known what should happen."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.synthetic_sample import NAMES, make_sample, noise, plant
from recsys_spark.fusion import decision, model_selection
from recsys_spark.fusion.blend_search import best_blend
from recsys_spark.fusion.decision import decide
from recsys_spark.metrics.bootstrap import Bootstrap

BOOTSTRAP = Bootstrap(samples=300, confidence=0.95, seed=7)
OPTIONS = {"k": 10, "length": 20, "fusion": "blend", "drop": True, "bootstrap": BOOTSTRAP}


def useful(n_users=1500, seed=0, helpful=(1, 2)):
    """als and item_knn know something of their own each, popularity and network nothing."""
    scores, held_out = noise(n_users, seed=seed)
    for model in helpful:
        plant(scores, model, held_out, 2)
    return scores, held_out


@pytest.mark.parametrize("seed", range(4))
def test_a_useless_model_is_dropped_and_useful_ones_and_popularity_stay(seed):
    scores, held_out = useful(seed=seed)
    found = decide(make_sample(scores, held_out), **OPTIONS)
    assert found.models == ("popularity", "als", "item_knn")
    assert list(found.selection.dropped) == ["network"]
    told = found.selection.dropped["network"]
    assert told.low <= told.mean <= told.high and told.low <= 0
    for name in ("als", "item_knn"):
        assert found.selection.adds[name].low > 0.05
    assert len(found.blend.weights) == 3 and sum(found.blend.weights) == pytest.approx(1)


def test_of_twins_one_stays():
    """Neither of two equal models adds anything while the other is there, so leave-one-out alone would drop both."""
    scores, held_out = useful(seed=1)
    scores[3] = scores[2]
    found = decide(make_sample(scores, held_out), **OPTIONS)
    assert max(found.selection.adds[name].mean for name in ("item_knn", "network")) < 0.01
    assert found.models == ("popularity", "als", "item_knn")  # the later of equals, which is dearer, went


def test_what_a_model_adds_is_judged_on_users_it_was_not_learned_on():
    """With noise alone any weights fit their own users a little, and others not at all."""
    scores, held_out = noise(600, seed=5)
    sample = make_sample(scores, held_out)
    learned = best_blend(sample, 10)[1]
    judged = model_selection.crossed(sample, "zscore", 10).ndcg.mean()
    chance = sum(1 / np.log2(1 + rank) for rank in range(1, 11)) / 40
    assert learned > chance + 0.01 > judged


def test_a_model_that_alone_finds_some_items_is_missed():
    """network's scores say nothing within the union, but a quarter of the held-out items is listed by it alone."""
    scores, held_out = useful(helpful=(1,))
    scores[3] = 0
    sample = make_sample(scores, held_out)
    listed = np.zeros_like(sample.listed)
    listed[:3, ~sample.relevant] = True
    users = sample.user[sample.relevant]
    listed[0, np.flatnonzero(sample.relevant)[users % 4 > 0]] = True
    listed[3, sample.relevant] = True
    found = decide(replace(sample, listed=listed), **OPTIONS)
    assert found.selection.adds["network"].low > 0.05
    assert "network" in found.models


def test_nothing_is_dropped_when_that_is_not_asked_or_there_is_too_little_to_judge_by():
    scores, held_out = useful()
    kept = decide(make_sample(scores, held_out), **{**OPTIONS, "drop": False})
    assert kept.models == NAMES and not kept.selection.dropped and set(kept.selection.adds) == set(NAMES)
    few = decide(make_sample(scores[:, :150], held_out[:150]), **{**OPTIONS, "fusion": "auto"})
    assert few.models == NAMES and few.selection is None and few.ranker is None


def test_popularity_alone():
    scores, held_out = noise(400, n_models=1)
    found = decide(make_sample(scores, held_out, NAMES[:1]), **OPTIONS)
    assert found.models == ("popularity",) and found.blend.weights == (1,)
    assert found.selection.adds["popularity"].mean == pytest.approx(found.valid_ndcg["popularity"])


@pytest.mark.parametrize("users", [0, 30])
def test_nothing_to_learn_from_gives_equal_weights(users, caplog):
    scores, _ = noise(users)
    found = decide(make_sample(scores, np.full(users, 999)), **OPTIONS)
    assert found.blend.weights == (0.25,) * 4 and found.models == NAMES
    assert found.valid_ndcg == dict.fromkeys((*NAMES, "fused"), 0.0)
    assert "none of the valid items" in caplog.text


def both(n_users=1500, seed=0):
    """A held-out item stands high with als and with item_knn; decoys stand yet higher with one and low with the other: a sum cannot tell."""
    scores, held_out = noise(n_users, seed=seed)
    rng = np.random.default_rng(seed + 100)
    for model in (1, 2):
        plant(scores, model, held_out, 2.5)
    for user in range(n_users):
        others = rng.permutation(np.setdiff1d(np.arange(40), held_out[user] - 1))
        for decoys, high, low in ((others[:6], 1, 2), (others[6:12], 2, 1)):
            scores[high, user, decoys] += 7
            scores[low, user, decoys] -= 1.5
    return scores, held_out


def test_a_ranker_ships_where_models_have_to_agree():
    found = decide(make_sample(*both()), **{**OPTIONS, "fusion": "auto"})
    assert found.contest.difference.low > 0.05
    assert found.contest.ranker == pytest.approx(found.contest.blend + found.contest.difference.mean)
    assert found.ranker.startswith("tree")
    assert found.plain()["ships"] == "ranker"


def gated(n_users=1500, seed=0):
    """A held-out item stands high with als, and decoys yet higher. Network likes these decoys alone: a sum of weights above zero has no use for it."""
    scores, held_out = noise(n_users, seed=seed)
    rng = np.random.default_rng(seed + 100)
    plant(scores, 1, held_out, 2.5)
    for user in range(n_users):
        decoys = rng.permutation(np.setdiff1d(np.arange(40), held_out[user] - 1))[:8]
        scores[1, user, decoys] += 6
        scores[3, user, decoys] += 7
    return scores, held_out


@pytest.mark.parametrize("fusion", ["blend", "auto"])
def test_what_ships_is_told_as_it_fares_on_users_it_was_not_learned_on(fusion):
    """Of what ships here nothing is dropped, so its halves can be judged again."""
    sample = make_sample(*both())
    found = decide(sample, **{**OPTIONS, "fusion": fusion, "drop": False})
    crossed = model_selection.crossed(sample, found.blend.method, 10)
    judge = model_selection.by_ranker(found.blend.method, 10, 20) if found.ranker else model_selection.by_blend
    told = found.plain()["crossed_ndcg"]
    assert told == pytest.approx(judge(sample, crossed).ndcg.mean())
    if fusion == "blend":
        assert told < found.valid_ndcg["fused"]
    else:
        assert told == pytest.approx(found.contest.ranker)


def test_of_few_users_nothing_is_told_that_was_learned_on_them():
    found = decide(make_sample(*useful(150)), **OPTIONS)
    assert found.crossed_ndcg is None and found.plain()["crossed_ndcg"] is None


def test_a_model_that_only_a_ranker_has_use_for_stays_where_one_ships():
    found = decide(make_sample(*gated()), **{**OPTIONS, "fusion": "auto"})
    assert found.plain()["ships"] == "ranker"
    assert found.models == ("popularity", "als", "network")
    assert found.selection.adds["network"].low > 0.02
    blend = decide(make_sample(*gated()), **OPTIONS)
    assert blend.models == ("popularity", "als")


def test_no_ranker_ships_where_a_sum_says_all():
    """Normal noise and a lift: the sum of the scores has all that can be known."""
    found = decide(make_sample(*useful()), **{**OPTIONS, "fusion": "auto"})
    assert found.contest.difference.low <= 0
    assert found.ranker is None and found.plain()["ships"] == "blend"
    assert decide(make_sample(*useful()), **{**OPTIONS, "fusion": "ranker"}).ranker.startswith("tree")


def test_a_ranker_that_loses_on_one_half_is_not_learned_again(monkeypatch):
    fits, fit = [], model_selection.ranker.fit
    monkeypatch.setattr(model_selection.ranker, "fit", lambda *a, **k: fits.append(1) or fit(*a, **k))
    told = decide(make_sample(*useful()), **{**OPTIONS, "fusion": "auto"}).contest
    assert len(fits) == 1
    assert told.difference.mean == pytest.approx(told.ranker - told.blend) and told.difference.mean <= 0


def test_the_same_sample_gives_the_same_decision():
    one, other = (decide(make_sample(*both()), **{**OPTIONS, "fusion": "auto"}) for _ in range(2))
    assert one.ranker == other.ranker and one.plain() == other.plain()
    json.dumps(one.plain())
    assert one.plain()["ships"] == decision.RANKER
