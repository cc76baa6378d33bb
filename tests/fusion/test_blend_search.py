"""The blend search: its objective against scikit-learn, and its weights on planted samples."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from fusion.synthetic_sample import NAMES, make_sample, noise, plant
from recsys_spark.fusion import blend_search
from recsys_spark.fusion.blend import METHODS, Blend
from recsys_spark.fusion.blend_search import BlendObjective, best_blend, fractions, single_model_ndcg
from recsys_spark.fusion.fuse import Fusion, fuse
from recsys_spark.models.histories import Histories


def ragged(seed, held_out, n_users=40):
    """Scores [3, U, C] with ties, items [U, C] of unequal number, and held-out items, candidates or not."""
    rng = np.random.default_rng(seed)
    lists = [np.sort(1 + rng.permutation(79)[: rng.integers(1, 30)]) for _ in range(n_users)]
    items = np.zeros((n_users, 31), np.int32)
    for row, values in zip(items, lists):
        row[: len(values)] = values
    scores = rng.integers(0, 6, (3, *items.shape)).astype(np.float32)
    return scores, items, [rng.choice(np.arange(1, 80), held_out, False) for _ in items]


def naive_ndcg(blend, scores, items, held_out, k):
    """NDCG@k of each user by scikit-learn. Held-out items that are not in the list get the lowest scores."""
    fusion, histories = Fusion(NAMES[:3], blend), Histories.of([[] for _ in items])
    values = []
    for row, positives in zip(fuse(fusion, items, scores, k, {}, histories).items, held_out):
        truth = np.isin(row, positives).astype(float)
        missing = len(positives) - int(truth.sum())
        truth = np.concatenate([truth, np.ones(missing), np.zeros(k)])
        shown = np.arange(len(truth), 0, -1.0)
        shown[len(row) : len(row) + missing] = -1
        values.append(ndcg_score([truth], [shown], k=k))
    return np.array(values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("held_out", [1, 4])
@pytest.mark.parametrize("weights", [(1, 0, 0), (0.25, 0.5, 0.25), (0, 1 / 3, 2 / 3)])
def test_the_objective_is_the_ndcg_of_the_fused_list(method, held_out, weights):
    scores, items, positives = ragged(5, held_out)
    sample = make_sample(scores, positives, NAMES[:3], items=items)
    ndcg = BlendObjective(sample, sample.normalised(method), 5)(np.array(weights), np.arange(len(sample.users)))
    expected = naive_ndcg(Blend(method, weights), scores, items, positives, 5)
    np.testing.assert_allclose(ndcg, expected[sample.users], atol=1e-6)
    assert sample.mean(ndcg) == pytest.approx(expected.mean())
    assert len(sample.users) < 40


def test_the_objective_of_some_users():
    scores, items, positives = ragged(6, 4)
    sample = make_sample(scores, positives, NAMES[:3], items=items)
    objective, weights = BlendObjective(sample, sample.normalised("zscore"), 5), np.array([0.5, 0.25, 0.25])
    some = np.array([20, 2, 17])
    ndcg = objective(weights, np.arange(len(sample.users)))
    assert ndcg[some].any()
    np.testing.assert_array_equal(objective(weights, some), ndcg[some])


def test_the_search_finds_a_planted_better_model():
    scores, held_out = noise()
    plant(scores, 1, held_out, 20)
    sample = make_sample(scores, held_out)
    blend, ndcg = best_blend(sample, 10)
    single = single_model_ndcg(sample, blend.method, 10)
    assert blend.weights == (0, 1, 0, 0)
    assert single["als"] == ndcg == pytest.approx(1.0)
    assert max(single[name] for name in NAMES if name != "als") < 0.3


def test_the_search_finds_a_planted_complementary_blend():
    """Each of two models sees half of the signal under its own noise. Neither alone is as good as their sum."""
    scores, held_out = noise(seed=1)
    for model in (0, 2):
        plant(scores, model, held_out, 2)
    sample = make_sample(scores, held_out)
    blend, ndcg = best_blend(sample, 10)
    assert ndcg > max(single_model_ndcg(sample, blend.method, 10).values()) + 0.1
    assert min(blend.weights[0], blend.weights[2]) > 0.25 > max(blend.weights[1], blend.weights[3])
    assert (blend, ndcg) == best_blend(make_sample(scores, held_out), 10)


def test_the_blend_is_never_below_the_best_single_model():
    for seed in range(5):
        scores, items, positives = ragged(seed, 1)
        sample = make_sample(scores, positives, NAMES[:3], items=items)
        blend, ndcg = best_blend(sample, 5)
        assert ndcg >= max(single_model_ndcg(sample, blend.method, 5).values())
        assert sum(blend.weights) == pytest.approx(1)


def test_the_search_finds_a_peak_in_seven_dimensions_with_few_evaluations():
    peak, evaluated = np.array([0.4, 0.02, 0.08, 0.2, 0, 0.3, 0]), []

    def value(units):
        evaluated.append(units)
        return -float(((fractions(units) - peak) ** 2).sum())

    _, units = blend_search.search(value, 7)
    assert np.abs(fractions(units) - peak).max() < 0.03
    assert len(evaluated) < 500  # a grid in steps of a quarter has 210 points in seven dimensions, of an eighth 3,003


@pytest.mark.parametrize("best", [0, 2])
def test_single_models_win_ties(best):
    """All weights that are largest for this model are equally good."""
    _, units = blend_search.search(lambda units: float(np.argmax(units) == best), 3)
    assert units == tuple(blend_search.FULL * (m == best) for m in range(3))
    assert blend_search.search(lambda units: 1.0, 3)[1] == (blend_search.FULL, 0, 0)
