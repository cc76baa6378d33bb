"""Learning weights: the objective against scikit-learn, the search on planted worlds."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from fusion.synthetic_sample import NAMES, make_sample, noise, plant
from recsys_spark.fusion import blend as fusion
from recsys_spark.fusion import blend_search
from recsys_spark.fusion.blend import Blend, fuse
from recsys_spark.fusion.blend_search import Objective, best_blend, shared


def ragged(seed, held_out, n_users=40):
    """scores [3, U, C] with ties, items [U, C] of very different lengths, and held-out items, candidates or not."""
    rng = np.random.default_rng(seed)
    lists = [np.sort(1 + rng.permutation(79)[: rng.integers(1, 30)]) for _ in range(n_users)]
    items = np.zeros((n_users, 31), np.int32)
    for row, own in zip(items, lists):
        row[: len(own)] = own
    scores = rng.integers(0, 6, (3, *items.shape)).astype(np.float32)
    return scores, items, [rng.choice(np.arange(1, 80), held_out, False) for _ in items]


def naive_ndcg(blend, scores, items, held_out, k):
    """NDCG@k of each user by scikit-learn, on the fused list and a worthless row for each held-out item that is not in it."""
    values = []
    for row, wanted in zip(fuse(blend, scores, items, k)[0], held_out):
        truth = np.isin(row, wanted).astype(float)
        missing = len(wanted) - int(truth.sum())
        truth = np.concatenate([truth, np.ones(missing), np.zeros(k)])
        shown = np.arange(len(truth), 0, -1.0)
        shown[len(row) : len(row) + missing] = -1
        values.append(ndcg_score([truth], [shown], k=k))
    return values


@pytest.mark.parametrize("method", fusion.METHODS)
@pytest.mark.parametrize("held_out", [1, 4])
@pytest.mark.parametrize("weights", [(1, 0, 0), (0.25, 0.5, 0.25), (0, 1 / 3, 2 / 3)])
def test_the_objective_is_the_ndcg_of_the_fused_list(method, held_out, weights):
    scores, items, wanted = ragged(5, held_out)
    sample = make_sample(scores, wanted, NAMES[:3], items=items)
    found = Objective(sample, sample.shares(method), 5)(np.array(weights), np.arange(40))
    np.testing.assert_allclose(found, naive_ndcg(Blend(method, weights), scores, items, wanted, 5), atol=1e-6)
    assert len(sample.telling) < 40


def test_of_some_users_only():
    scores, items, wanted = ragged(6, 4)
    sample = make_sample(scores, wanted, NAMES[:3], items=items)
    objective, weights = Objective(sample, sample.shares("zscore"), 5), np.array([0.5, 0.25, 0.25])
    some = np.array([31, 2, 17])
    np.testing.assert_array_equal(objective(weights, some), objective(weights, np.arange(40))[some])


def test_learning_finds_a_planted_better_model():
    scores, held_out = noise()
    plant(scores, 1, held_out, 20)
    sample = make_sample(scores, held_out)
    blend, ndcg = best_blend(sample, 10)
    alone = blend_search.alone(sample, blend.method, 10)
    assert blend.weights == (0, 1, 0, 0)
    assert alone["als"] == ndcg == pytest.approx(1.0)
    assert max(alone[name] for name in NAMES if name != "als") < 0.3


def test_learning_finds_a_planted_complementary_blend():
    """Each of two models sees half of the signal, under its own noise; neither alone is as good as their sum."""
    scores, held_out = noise(seed=1)
    for model in (0, 2):
        plant(scores, model, held_out, 2)
    sample = make_sample(scores, held_out)
    blend, ndcg = best_blend(sample, 10)
    assert ndcg > max(blend_search.alone(sample, blend.method, 10).values()) + 0.1
    assert min(blend.weights[0], blend.weights[2]) > 0.25 > max(blend.weights[1], blend.weights[3])
    assert (blend, ndcg) == best_blend(make_sample(scores, held_out), 10)


def test_the_blend_is_never_below_the_best_single_model_on_valid():
    for seed in range(5):
        scores, items, wanted = ragged(seed, 1)
        sample = make_sample(scores, wanted, NAMES[:3], items=items)
        blend, ndcg = best_blend(sample, 5)
        assert ndcg >= max(blend_search.alone(sample, blend.method, 5).values())
        assert sum(blend.weights) == pytest.approx(1)


def test_the_search_climbs_to_a_peak_in_seven_dimensions_and_asks_little():
    peak, asked = np.array([0.4, 0.02, 0.08, 0.2, 0, 0.3, 0]), []

    def value(units):
        asked.append(units)
        return -float(((shared(units) - peak) ** 2).sum())

    _, units = blend_search.search(value, 7)
    assert np.abs(shared(units) - peak).max() < 0.03
    assert len(asked) < 500  # the grid of quarters alone would have 210 points in seven dimensions, of eighths 3,003


@pytest.mark.parametrize("best", [0, 2])
def test_single_models_win_ties(best):
    """Whatever gives this model the largest weight is equally good."""
    _, units = blend_search.search(lambda units: float(np.argmax(units) == best), 3)
    assert units == tuple(blend_search.WHOLE * (m == best) for m in range(3))
    assert blend_search.search(lambda units: 1.0, 3)[1] == (blend_search.WHOLE, 0, 0)
