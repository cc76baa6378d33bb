"""The ranker features beside the models: by hand, against a naive count, in any batch, and that a ranker uses them."""

import numpy as np
import pytest

from fusion.synthetic_sample import categories_of, category_sample, make_sample, noise, popularity_of
from recsys_spark.fusion.blend_search import best_blend
from recsys_spark.fusion.model_selection import CrossValidator
from recsys_spark.fusion.ranker_features import NAMES, UserItemFeatures
from recsys_spark.models.histories import Histories
from stages.score.fake_models import random_histories


def test_a_small_case_by_hand():
    categories = categories_of([[], [0], [0, 1], [1], [2], [], [0, 2], [], [], []])
    histories = Histories.of([[1, 2, 5], [4], [5, 7]])
    histories.segments[1] = "a"
    user_item = UserItemFeatures.of(histories, popularity_of(10), categories)
    items, user = np.array([6, 3, 5, 6, 2, 1], np.int32), np.array([0, 0, 0, 1, 1, 2])
    features = dict(zip(NAMES, user_item(items, user)))
    assert features["segment_popularity"].tolist() == [6, 3, 5, 9 - 6, 9 - 2, 1]
    assert features["popularity"].tolist() == [6, 3, 5, 6, 2, 1]
    assert features["history_length"].tolist() == [3, 3, 3, 1, 1, 2]
    np.testing.assert_allclose(features["history_popularity"], [8 / 3, 8 / 3, 8 / 3, 4, 4, 6], rtol=1e-6)
    # user 0: of three history items two have category 0, one has 1, none has 2. Item 5 has no category.
    # The only history item of user 1 has category 2.
    expected = [(2 / 3 + 0) / 2, 1 / 3, 0, (0 + 1) / 2, 0, 0]
    np.testing.assert_allclose(features["category_share"], expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_any_batch_has_the_features_of_a_naive_count(size):
    rng = np.random.default_rng(1)
    lists = [rng.permutation(6)[: rng.integers(0, 4)].tolist() for _ in range(50)]
    histories = random_histories(30, 50, 20, 2)
    items = rng.integers(1, 50, (30, 8)).astype(np.int32)
    for start in range(0, 30, size):
        part = histories.rows(start, start + size)
        batch, user = items[start : start + size].ravel(), np.repeat(np.arange(len(part)), 8)
        features = UserItemFeatures.of(part, popularity_of(50), categories_of(lists))(batch, user)
        for row, (u, item) in enumerate(zip(user, batch)):
            history = part.items[part.indptr[u] : part.indptr[u + 1]]
            shares = [np.mean([code in lists[h] for h in history]) for code in lists[item] if len(history)]
            assert features[NAMES.index("category_share"), row] == pytest.approx(np.mean(shares) if shares else 0)
            mean = history.mean() if len(history) else 0
            assert features[NAMES.index("history_popularity"), row] == pytest.approx(mean)


def test_a_ranker_learns_from_categories_what_no_model_scores():
    planted, ndcg = category_sample(n_users=1200, width=60), {}
    for name, categories in (("with", planted.categories), ("without", None)):
        sample = make_sample(planted.scores, planted.held_out, ("popularity", "als"), categories=categories)
        method = best_blend(sample, 10)[0].method
        ndcg[name] = CrossValidator(method, 10, 20, use_ranker=True)(sample).ndcg.mean()
    assert ndcg["with"] > 2 * ndcg["without"]


def test_a_fusion_without_popularity_has_no_popularity_features():
    scores, held_out = noise(9, width=30)
    sample = make_sample(scores, held_out)
    items, user = np.array([3, 9], np.int32), np.array([0, 7])
    samples = sample, sample.only(["als", "network"])
    full, without = (dict(zip(NAMES, s.user_item(items, user))) for s in samples)
    assert full["popularity"].tolist() == [3, 9] and full["history_popularity"].tolist() == [1, 8]
    for name in ("segment_popularity", "popularity", "history_popularity"):
        assert without[name].tolist() == [0, 0]
    assert without["history_length"].tolist() == full["history_length"].tolist() == [1, 1]
