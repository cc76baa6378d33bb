"""What a ranker is told of users and items: by hand, against a naive count, whatever the batch, and that it learns from it."""

import numpy as np
import pytest

from fusion.synthetic_sample import categories_of, category_world, make_sample, noise, popularity_of
from recsys_spark.fusion import model_selection
from recsys_spark.fusion.blend_search import best_blend
from recsys_spark.fusion.ranker_features import NAMES, Traits
from recsys_spark.models.histories import Histories
from stages.score.fake_models import random_histories


def test_a_small_case_by_hand():
    categories = categories_of([[], [0], [0, 1], [1], [2], [], [0, 2], [], [], []])
    histories = Histories.of([[1, 2, 5], [4], [5, 7]])
    histories.segments[1] = "a"
    traits = Traits.of(histories, popularity_of(10), categories)
    items, user = np.array([6, 3, 5, 6, 2, 1], np.int32), np.array([0, 0, 0, 1, 1, 2])
    found = dict(zip(NAMES, traits(items, user)))
    assert found["popularity"].tolist() == [6, 3, 5, 9 - 6, 9 - 2, 1]
    assert found["popularity_everywhere"].tolist() == [6, 3, 5, 6, 2, 1]
    assert found["history"].tolist() == [3, 3, 3, 1, 1, 2]
    np.testing.assert_allclose(found["history_popularity"], [8 / 3, 8 / 3, 8 / 3, 4, 4, 6], rtol=1e-6)
    # of three history items two are of category 0, none of 2; one is of 1; item 5 has no category; the only one of user 1 is of 2
    np.testing.assert_allclose(found["category_share"], [(2 / 3 + 0) / 2, 1 / 3, 0, (0 + 1) / 2, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_any_batch_is_told_the_same_and_as_a_naive_count_has_it(size):
    rng = np.random.default_rng(1)
    lists = [rng.permutation(6)[: rng.integers(0, 4)].tolist() for _ in range(50)]
    histories = random_histories(30, 50, 20, 2)
    items = rng.integers(1, 50, (30, 8)).astype(np.int32)
    for start in range(0, 30, size):
        part = histories.rows(start, start + size)
        user = np.repeat(np.arange(len(part)), 8)
        found = Traits.of(part, popularity_of(50), categories_of(lists))(items[start : start + size].ravel(), user)
        for row, (own, item) in enumerate(zip(user, items[start : start + size].ravel())):
            had = part.items[part.indptr[own] : part.indptr[own + 1]]
            shares = [np.mean([code in lists[h] for h in had]) for code in lists[item] if len(had)]
            assert found[NAMES.index("category_share"), row] == pytest.approx(np.mean(shares) if shares else 0)
            mean = had.mean() if len(had) else 0
            assert found[NAMES.index("history_popularity"), row] == pytest.approx(mean)


def test_a_ranker_learns_from_categories_what_no_model_says():
    world, ndcg = category_world(n_users=1200, width=60), {}
    for told, categories in (("with", world.categories), ("without", None)):
        sample = make_sample(world.scores, world.held_out, ("popularity", "als"), categories=categories)
        method = best_blend(sample, 10)[0].method
        blend = model_selection.crossed(sample, method, 10)
        ndcg[told] = model_selection.by_ranker(method, 10, 20)(sample, blend).ndcg.mean()
    assert ndcg["with"] > 2 * ndcg["without"]


def test_without_popularity_nothing_is_popular():
    scores, held_out = noise(9, width=30)
    sample = make_sample(scores, held_out)
    items, user = np.array([3, 9], np.int32), np.array([0, 7])
    known, less = (dict(zip(NAMES, s.traits(items, user))) for s in (sample, sample.only(["als", "network"])))
    assert known["popularity_everywhere"].tolist() == [3, 9] and known["history_popularity"].tolist() == [
        1,
        8,
    ]
    for name in ("popularity", "popularity_everywhere", "history_popularity"):
        assert less[name].tolist() == [0, 0]
    assert less["history"].tolist() == known["history"].tolist() == [1, 1]
