"""Fusing lists, and learning how: known answers, naive twins, planted worlds."""

import math
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from recsys_spark.score import fusion, learning
from recsys_spark.score.fusion import RRF, ZSCORE, Blend, fuse, parts, union

INF = -np.inf


def candidates(seed, n_users=40, n_items=80, n_models=3, levels=6):
    """items [U, C] ragged and padded, scores [M, U, C] with ties and rubbish where padded."""
    rng = np.random.default_rng(seed)
    lists = [np.sort(1 + rng.permutation(n_items - 1)[: rng.integers(1, 30)]) for _ in range(n_users)]
    items = np.zeros((n_users, max(map(len, lists))), np.int32)
    for row, own in zip(items, lists):
        row[: len(own)] = own
    return items, rng.integers(0, levels, (n_models, *items.shape)).astype(np.float32)


def test_union_is_each_item_once_ascending():
    lists = [
        np.array([[5, 3, 0], [2, 0, 0], [0, 0, 0]], np.int32),
        np.array([[3, 9], [2, 1], [0, 0]], np.int32),
    ]
    np.testing.assert_array_equal(union(lists), [[3, 5, 9], [1, 2, 0], [0, 0, 0]])
    assert union([np.zeros((2, 3), np.int32)]).shape == (2, 0)


def test_standard_scores_of_a_small_case():
    items = np.array([[1, 2, 3, 0]], np.int32)
    scores = np.array([[[1, 2, 3, 99]], [[7, 7, 7, 0]]], np.float32)
    step = 1 / math.sqrt(2 / 3)  # mean 2, variance (1 + 0 + 1) / 3
    np.testing.assert_allclose(
        parts(ZSCORE, scores, items), [[[-step, 0, step, 0]], [[0, 0, 0, 0]]], rtol=1e-6
    )


def test_a_flat_model_says_nothing_even_where_its_mean_is_rounded():
    items = np.arange(1, 8, dtype=np.int32)[None, :]
    np.testing.assert_array_equal(
        parts(ZSCORE, np.full((1, 1, 7), 0.1, np.float32), items), np.zeros((1, 1, 7))
    )


def test_reciprocal_ranks_of_a_small_case():
    items = np.array([[4, 6, 8, 0]], np.int32)
    scores = np.array([[[1, 5, 1, 99]]], np.float32)  # item 4 stands before its equal, item 8
    np.testing.assert_allclose(parts(RRF, scores, items), [[[1 / 62, 1 / 61, 1 / 63, 0]]], rtol=1e-6)


def test_fused_scores_add_up_and_name_their_source():
    items = np.array([[1, 2, 3]], np.int32)
    scores = np.array([[[3, 2, 1]], [[1, 2, 3]], [[9, 0, 0]]], np.float32)
    top, total, shares = fuse(Blend(RRF, (0.25, 0.75, 0.0)), scores, items, 2)
    np.testing.assert_array_equal(top, [[3, 2]])
    np.testing.assert_allclose(total, [[0.25 / 63 + 0.75 / 61, 0.25 / 62 + 0.75 / 62]], rtol=1e-6)
    expected = [[0.25 / 63, 0.25 / 62], [0.75 / 61, 0.75 / 62], [-np.inf, -np.inf]]
    np.testing.assert_allclose(shares[:, 0], expected, rtol=1e-6)
    # equal shares: the first model is named; equal totals: the lower item stands first
    top, _, shares = fuse(Blend(RRF, (0.5, 0.5, 0.0)), scores, items, 3)
    np.testing.assert_array_equal(top, [[1, 3, 2]])
    np.testing.assert_array_equal(shares.argmax(axis=0), [[0, 1, 0]])


def test_a_model_without_weight_is_never_a_source():
    items, scores = candidates(3)
    *_, shares = fuse(Blend(ZSCORE, (0.0, 1.0, 0.0)), scores, items, 10)
    assert set(np.unique(shares.argmax(axis=0))) == {1}


@pytest.mark.parametrize("method", fusion.METHODS)
@pytest.mark.parametrize("model", [0, 1, 2])
def test_all_weight_on_one_model_gives_its_own_ranking(method, model):
    items, scores = candidates(model)
    weights = tuple(float(m == model) for m in range(3))
    top, total, _ = fuse(Blend(method, weights), scores, items, 8)
    for user in range(len(items)):
        real = items[user] > 0
        own = sorted(zip(-scores[model, user, real], items[user, real]))[:8]
        assert [i for _, i in own] + [0] * (min(8, items.shape[1]) - len(own)) == top[user].tolist()
        assert all(a >= b for a, b in pairwise(total[user]))


def naive_ndcg(blend, scores, items, positives, k):
    """NDCG@k by scikit-learn, on the candidates and a worthless row for each held-out item that is not among them."""
    values = []
    top, _, _ = fuse(blend, scores, items, k)
    for row, wanted in zip(top, positives):
        if not len(wanted):
            values.append(0.0)
            continue
        truth = np.isin(row, wanted).astype(float)
        missing = len(wanted) - int(truth.sum())
        truth = np.concatenate([truth, np.ones(missing), np.zeros(k)])
        shown = np.arange(len(truth), 0, -1.0)
        shown[len(row) : len(row) + missing] = -1
        values.append(ndcg_score([truth], [shown], k=k))
    return float(np.mean(values))


@pytest.mark.parametrize("method", fusion.METHODS)
@pytest.mark.parametrize("held_out", [1, 4])
def test_the_objective_is_the_ndcg_of_the_fused_list(method, held_out, monkeypatch):
    items, scores = candidates(5, n_users=30)
    rng = np.random.default_rng(0)
    positives = [np.sort(rng.choice(np.arange(1, 80), held_out, False)) for _ in items]
    monkeypatch.setattr(learning, "BLOCK", 7)
    asked = {}

    def remember(value, n_models):
        points = [*learning.grid(n_models)[::4], (0.5, 0.25, 0.25)]
        asked.update({w: value(w) for w in points})
        return max((v, w) for w, v in asked.items())

    monkeypatch.setattr(learning, "search", remember)
    monkeypatch.setattr(learning, "METHODS", (method,))
    learning.learn(["a", "b", "c"], scores, items, positives, 5)
    assert len(asked) >= 4
    for weights, value in asked.items():
        assert value == pytest.approx(
            naive_ndcg(Blend(method, weights), scores, items, positives, 5), abs=1e-6
        )


def planted(n_users=400, n_items=60, seed=0):
    """Every user has 40 candidates and one held-out item among them; models are noise until a test plants something."""
    rng = np.random.default_rng(seed)
    items = np.stack([np.sort(1 + rng.permutation(n_items)[:40]) for _ in range(n_users)]).astype(np.int32)
    target = rng.integers(0, 40, n_users)
    scores = rng.standard_normal((3, n_users, 40)).astype(np.float32)
    return items, scores, target, [items[u, [t]] for u, t in enumerate(target)]


def test_learning_finds_a_planted_better_model():
    items, scores, target, positives = planted()
    scores[1, np.arange(len(items)), target] = 10
    learned = learning.learn(["noise", "oracle", "more noise"], scores, items, positives, 10)
    assert learned.blend.weights[1] > 0.5
    assert learned.ndcg["oracle"] == learned.ndcg["fused"] == pytest.approx(1.0)
    assert learned.ndcg["noise"] < 0.3


def test_learning_finds_a_planted_complementary_blend():
    """Each of two models sees half of the signal, under its own noise; neither alone is as good as their sum."""
    items, scores, target, positives = planted(seed=1)
    users = np.arange(len(items))
    scores[0, users, target] += 2
    scores[2, users, target] += 2
    learned = learning.learn(["one", "noise", "other"], scores, items, positives, 10)
    best_alone = max(learned.ndcg[name] for name in ("one", "noise", "other"))
    assert learned.ndcg["fused"] > best_alone + 0.1
    assert min(learned.blend.weights[0], learned.blend.weights[2]) > 0.25 > learned.blend.weights[1]


def test_fused_is_never_below_the_best_single_model_on_valid():
    for seed in range(5):
        items, scores = candidates(seed)
        positives = [row[row > 0][:1] for row in items]
        learned = learning.learn(["a", "b", "c"], scores, items, positives, 5)
        assert learned.ndcg["fused"] >= max(learned.ndcg[name] for name in "abc")
        assert sum(learned.blend.weights) == pytest.approx(1)


@pytest.mark.parametrize("positives", [[], [np.array([999])] * 40])
def test_nothing_to_learn_from_gives_equal_weights(positives, caplog):
    items, scores = (
        candidates(0) if positives else (np.zeros((0, 0), np.int32), np.zeros((3, 0, 0), np.float32))
    )
    learned = learning.learn(["a", "b", "c"], scores, items, positives, 5)
    assert learned == learning.Learned(
        Blend(ZSCORE, (1 / 3, 1 / 3, 1 / 3)), {"a": 0.0, "b": 0.0, "c": 0.0, "fused": 0.0}
    )
    assert "none of the valid items" in caplog.text


def test_the_grid_holds_every_single_model_first():
    points = learning.grid(4)
    assert points[:4] == [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len(points) == len(set(points)) == math.comb(4 + 3, 3)
    assert all(sum(p) == 1 for p in points)


def test_the_search_climbs_to_a_peak_off_the_grid():
    peak = np.array([0.61, 0.09, 0.3])
    value, weights = learning.search(lambda w: -float(((np.array(w) - peak) ** 2).sum()), 3)
    assert np.abs(np.array(weights) - peak).max() <= 2 * learning.FINEST
    assert value <= 0
