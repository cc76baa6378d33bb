"""Model selection on samples with a known answer: which models are dropped, and whether the ranker is selected."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.synthetic_sample import NAMES, make_sample, noise, plant
from recsys_spark.fusion.blend_search import best_blend
from recsys_spark.fusion.model_selection import CrossValidator, select_fusion
from recsys_spark.metrics.bootstrap import Bootstrap

BOOTSTRAP = Bootstrap(samples=300, confidence=0.95, seed=7)
OPTIONS = {"k": 10, "length": 20, "fusion": "blend", "drop": True, "bootstrap": BOOTSTRAP}


def useful(n_users=1500, seed=0, helpful=(1, 2)):
    """als and item_knn each see a signal of their own, popularity and network see none."""
    scores, held_out = noise(n_users, seed=seed)
    for model in helpful:
        plant(scores, model, held_out, 2)
    return scores, held_out


@pytest.mark.parametrize("seed", range(4))
def test_a_useless_model_is_dropped_and_useful_ones_and_popularity_are_kept(seed):
    result = select_fusion(make_sample(*useful(seed=seed)), **OPTIONS)
    assert result.models == ("popularity", "als", "item_knn")
    assert list(result.elimination.dropped) == ["network"]
    loss = result.elimination.dropped["network"]
    assert loss.low <= loss.mean <= loss.high and loss.low <= 0
    for name in ("als", "item_knn"):
        assert result.elimination.leave_one_out[name].low > 0.05
    assert len(result.blend.weights) == 3 and sum(result.blend.weights) == pytest.approx(1)


def test_one_of_two_equal_models_is_kept():
    """Neither adds anything while the other is there, so leave-one-out alone would drop both."""
    scores, held_out = useful(seed=1)
    scores[3] = scores[2]
    result = select_fusion(make_sample(scores, held_out), **OPTIONS)
    assert max(result.elimination.leave_one_out[name].mean for name in ("item_knn", "network")) < 0.01
    assert result.models in {("popularity", "als", "item_knn"), ("popularity", "als", "network")}


def test_of_models_that_add_the_same_the_later_is_dropped_first():
    """Later models take longer to fit."""
    scores, held_out = useful(helpful=(1,))
    scores[2:] = 0
    result = select_fusion(make_sample(scores, held_out), **OPTIONS)
    assert list(result.elimination.dropped) == ["network", "item_knn"]


def test_cross_validation_evaluates_users_that_the_weights_were_not_fitted_on():
    """With noise alone, weights fit their own users a little and others not at all."""
    samples = [make_sample(*noise(600, seed=seed)) for seed in range(8)]
    fitted = np.mean([best_blend(sample, 10)[1] for sample in samples])
    cross_validated = np.mean([CrossValidator("zscore", 10, 20).blend(sample).ndcg.mean() for sample in samples])
    chance = sum(1 / np.log2(1 + rank) for rank in range(1, 11)) / 40
    assert fitted > chance + 0.01 > cross_validated


def test_a_model_that_alone_lists_some_items_is_kept():
    """The scores of network are constant, but it alone lists a quarter of the held-out items."""
    scores, held_out = useful(helpful=(1,))
    scores[3] = 0
    sample = make_sample(scores, held_out)
    listed = np.zeros_like(sample.listed)
    listed[:3] = ~sample.relevant
    listed[0] |= sample.relevant & (np.arange(len(sample.users)) % 4 > 0)[:, None]
    listed[3] = sample.relevant
    result = select_fusion(replace(sample, listed=listed), **OPTIONS)
    assert result.elimination.leave_one_out["network"].low > 0.05
    assert "network" in result.models


def test_nothing_is_dropped_when_it_is_not_allowed_or_when_there_are_few_users():
    scores, held_out = useful()
    kept = select_fusion(make_sample(scores, held_out), **{**OPTIONS, "drop": False})
    assert kept.models == NAMES and not kept.elimination.dropped
    assert set(kept.elimination.leave_one_out) == set(NAMES)
    few = select_fusion(make_sample(scores[:, :150], held_out[:150]), **{**OPTIONS, "fusion": "auto"})
    assert few.models == NAMES and few.elimination is None and few.ranker is None


def test_popularity_alone():
    scores, held_out = noise(400, n_models=1)
    result = select_fusion(make_sample(scores, held_out, NAMES[:1]), **OPTIONS)
    assert result.models == ("popularity",) and result.blend.weights == (1,)
    assert result.elimination.leave_one_out["popularity"].mean == pytest.approx(result.valid_ndcg["popularity"])


@pytest.mark.parametrize("users", [0, 30])
def test_without_informative_users_all_models_get_equal_weights(users, caplog):
    scores, _ = noise(users)
    result = select_fusion(make_sample(scores, np.full(users, 999)), **OPTIONS)
    assert result.blend.weights == (0.25,) * 4 and result.models == NAMES
    assert result.valid_ndcg == dict.fromkeys((*NAMES, "fused"), 0.0)
    assert f"no held-out item of the {users} sampled users is among the candidates" in caplog.text


def test_uninformative_users_count_in_every_mean():
    """Users without a held-out candidate have NDCG 0: with as many of them as others, means are half as large."""
    scores, held_out = useful(700)
    alone = select_fusion(make_sample(scores, held_out), **OPTIONS)
    doubled = np.concatenate([held_out, np.full(700, 999)])
    diluted = select_fusion(make_sample(np.concatenate([scores, scores], axis=1), doubled), **OPTIONS)
    for name in (*NAMES, "fused"):
        assert diluted.valid_ndcg[name] == pytest.approx(alone.valid_ndcg[name] / 2)
    assert diluted.cross_validated_ndcg == pytest.approx(alone.cross_validated_ndcg / 2)
    for name, estimate in alone.elimination.leave_one_out.items():
        assert diluted.elimination.leave_one_out[name].mean == pytest.approx(estimate.mean / 2)


def conjunction(n_users=1500, seed=0):
    """als and item_knn both score the held-out item high. Each scores decoys higher that the other scores low.

    A weighted sum cannot tell the held-out item from the decoys.
    """
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


def test_the_ranker_is_selected_where_models_have_to_agree():
    result = select_fusion(make_sample(*conjunction()), **{**OPTIONS, "fusion": "auto"})
    assert result.comparison.difference.low > 0.05
    assert result.comparison.ranker == pytest.approx(result.comparison.blend + result.comparison.difference.mean)
    assert result.ranker.startswith("tree")
    assert result.as_json()["selected"] == "ranker"


def negative_signal(n_users=1500, seed=0):
    """als scores the held-out item high and decoys higher. network scores these decoys alone high.

    A sum with weights above zero has no use for network.
    """
    scores, held_out = noise(n_users, seed=seed)
    rng = np.random.default_rng(seed + 100)
    plant(scores, 1, held_out, 2.5)
    for user in range(n_users):
        decoys = rng.permutation(np.setdiff1d(np.arange(40), held_out[user] - 1))[:8]
        scores[1, user, decoys] += 6
        scores[3, user, decoys] += 7
    return scores, held_out


@pytest.mark.parametrize("fusion", ["blend", "auto"])
def test_the_reported_ndcg_of_the_selected_fusion_is_cross_validated(fusion):
    """Without dropping, the cross-validation of the selected fusion can be repeated here."""
    sample = make_sample(*conjunction())
    result = select_fusion(sample, **{**OPTIONS, "fusion": fusion, "drop": False})
    validator = CrossValidator(result.blend.method, 10, 20, use_ranker=result.ranker is not None)
    ndcg = result.as_json()["cross_validated_ndcg"]
    assert ndcg == pytest.approx(validator(sample).ndcg.mean())
    if fusion == "blend":
        assert ndcg < result.valid_ndcg["fused"]
    else:
        assert ndcg == pytest.approx(result.comparison.ranker)


def test_with_few_users_there_is_no_cross_validated_ndcg():
    result = select_fusion(make_sample(*useful(150)), **OPTIONS)
    assert result.cross_validated_ndcg is None and result.as_json()["cross_validated_ndcg"] is None


def test_a_model_that_only_the_ranker_can_use_is_kept_where_the_ranker_is_selected():
    result = select_fusion(make_sample(*negative_signal()), **{**OPTIONS, "fusion": "auto"})
    assert result.as_json()["selected"] == "ranker"
    assert result.models == ("popularity", "als", "network")
    assert result.elimination.leave_one_out["network"].low > 0.02
    blend = select_fusion(make_sample(*negative_signal()), **OPTIONS)
    assert blend.models == ("popularity", "als")


def test_the_blend_is_selected_where_a_sum_is_optimal():
    """With normal noise and a constant lift, the sum of the scores holds all information."""
    result = select_fusion(make_sample(*useful()), **{**OPTIONS, "fusion": "auto"})
    assert result.comparison.difference.low <= 0
    assert result.ranker is None and result.as_json()["selected"] == "blend"
    assert select_fusion(make_sample(*useful()), **{**OPTIONS, "fusion": "ranker"}).ranker.startswith("tree")


def test_the_same_sample_gives_the_same_result():
    one, other = (select_fusion(make_sample(*conjunction()), **{**OPTIONS, "fusion": "auto"}) for _ in range(2))
    assert one.ranker == other.ranker and one.as_json() == other.as_json()
    json.dumps(one.as_json())
