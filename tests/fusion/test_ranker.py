"""The ranker: its features by hand, its shortlist, batches, and its file."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fusion.synthetic_sample import category_sample, make_sample, noise, plant, popularity_of
from recsys_spark.errors import InputUnreadable
from recsys_spark.fusion import ranker
from recsys_spark.fusion.blend import METHODS, Blend, normalise
from recsys_spark.fusion.fuse import Fusion, SavedRanker
from recsys_spark.fusion.model_selection import fit_ranker
from recsys_spark.fusion.ranker_features import UserItemFeatures
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.histories import Histories
from recsys_spark.stages.score.lists import CandidateSearch, ListRequest, rank
from stages.score.fake_models import FakeModel, random_histories

TWO = ("popularity", "als")


@pytest.fixture(scope="module")
def text():
    scores, held_out = noise(300, n_models=2)
    plant(scores, 1, held_out, 2)
    return fit_ranker(make_sample(scores, held_out, TWO), Blend("zscore", (0.25, 0.75)), length=6, k=5)


def inputs_of(items, scores, histories, depth):
    user_item = UserItemFeatures.of(histories, popularity_of(90), Categories.none(90))
    normalised = {method: normalise(method, scores, items) for method in METHODS}
    return ranker.RankerInputs(TWO, items, normalised, user_item, depth)


def test_features_of_a_small_case():
    scores = np.array([[[1, 2, 3], [5, 5, 0]], [[4, 6, 2], [0, 8, 0]]], np.float32)
    items = np.array([[3, 5, 7], [4, 6, 0]], np.int32)
    inputs = inputs_of(items, scores, Histories.of([[11, 12], [13]]), depth=1)
    blend = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows = ranker.features(inputs, blend, user=np.array([0, 1]), column=np.array([1, 1]))
    features = dict(zip(ranker.feature_names(TWO), rows.T))
    deviation = np.sqrt(((4 - 4) ** 2 + (6 - 4) ** 2 + (2 - 4) ** 2) / 3)
    assert features["zscore_popularity"].tolist() == [0, 0]
    np.testing.assert_allclose(features["zscore_als"], [(6 - 4) / deviation, 1], rtol=1e-6)
    np.testing.assert_allclose(features["rrf_popularity"], [1 / 62, 1 / 62], rtol=1e-6)
    np.testing.assert_allclose(features["rrf_als"], [1 / 61, 1 / 61], rtol=1e-6)
    assert features["lists"].tolist() == [1, 1]  # each is the first of als and the second of popularity
    assert features["blend"].tolist() == [1, 4]
    assert features["popularity"].tolist() == [5, 6]  # of items 5 and 6, by popularity_of
    assert features["history_length"].tolist() == [2, 1]


def test_the_shortlist_has_the_best_of_the_blend_and_ties_go_to_the_lower_item():
    blend = np.array([[2, 3, 3, 1], [9, -np.inf, -np.inf, -np.inf]], np.float32)
    user, column = ranker.shortlist(blend, 3)
    assert list(zip(user, column)) == [(0, 1), (0, 2), (0, 0), (1, 0)]
    _, column = ranker.shortlist(blend[:1], 1)
    assert column.tolist() == [1]


def test_only_the_shortlist_has_scores(text):
    scores, _ = noise(3, width=80, n_models=2)
    items = np.tile(np.arange(1, 81, dtype=np.int32), (3, 1))
    inputs = inputs_of(items, scores, Histories.of([[81], [82], [83]]), depth=1000)
    blend = scores[1]
    ranked = ranker.rerank(ranker.from_text(text), inputs, blend, 6)
    assert np.isfinite(ranked).sum(axis=1).tolist() == [ranker.SHORTLIST * 6] * 3
    lowest = np.where(np.isfinite(ranked), blend, np.inf).min(axis=1)
    assert (lowest >= np.where(np.isfinite(ranked), -np.inf, blend).max(axis=1)).all()
    some = ranker.rerank(ranker.from_text(text), inputs, blend, 6, np.array([2, 0]))
    assert np.array_equal(some[[0, 2]], ranked[[0, 2]]) and np.isneginf(some[1]).all()


def collect(lists):
    """{user: ([items], [scores], [sources])} of fused lists."""
    return {
        int(user): (items.tolist(), scores.tolist(), sources.tolist())
        for r in lists
        for user, items, scores, sources in zip(r.users, r.items, r.scores, r.sources)
    }


def in_batches(models, histories, search, request, size):
    lists = {}
    for start, batch in zip(range(0, len(histories), size), histories.batches(size)):
        lists |= {start + user: row for user, row in collect(rank(models, batch, search, request)).items()}
    return lists


def test_ranked_lists_fall_name_their_source_and_do_not_depend_on_the_batch(text, tmp_path):
    (tmp_path / "ranker.txt").write_text(text)
    models = {name: FakeModel(90, seed, name, levels=50) for seed, name in enumerate(TWO)}
    saved = SavedRanker(str(tmp_path / "ranker.txt"), 6, 40, Categories.none(90))
    fusion = Fusion(TWO, Blend("zscore", (0.0, 1.0)), saved)
    histories, search = random_histories(23, 90, 12, 4), CandidateSearch(np.arange(90) == 0, 40, 16)
    request = ListRequest(fusion, length=6)
    whole = collect(rank(models, histories, search, request))
    plain = collect(rank(models, histories, search, ListRequest(replace(fusion, ranker=None), 6)))
    warm = [user for user in range(23) if histories.lengths()[user]]
    assert sum(whole[user] != plain[user] for user in warm) > 10
    for user in warm:
        items, scores, sources = whole[user]
        assert scores == sorted(scores, reverse=True) and len(set(items)) == 6
        assert set(sources) == {1}  # popularity has no weight in the blend
    for size, tile in ((1, 7), (5, 1000)):
        assert in_batches(models, histories, replace(search, tile=tile), request, size) == whole


def test_lists_use_the_same_category_features_as_the_sample(tmp_path):
    """A ranker that learns from categories alone puts items of the user's category first, in any batch."""
    planted = category_sample(n_users=600, width=60)
    sample = make_sample(planted.scores, planted.held_out, TWO, categories=planted.categories)
    blend = Blend("zscore", (0.5, 0.5))
    (tmp_path / "ranker.txt").write_text(fit_ranker(sample, blend, length=20, k=10))
    models = {"popularity": popularity_of(61), "als": FakeModel(61, 4, "als", levels=50)}
    search = CandidateSearch(np.arange(61) == 0, 200, 16)
    saved = SavedRanker(str(tmp_path / "ranker.txt"), 20, 200, planted.categories)
    request = ListRequest(Fusion(TWO, blend, saved), length=20)
    histories = Histories.of([[1 + user % 60] for user in range(60)])
    whole = collect(rank(models, histories, search, request))

    def same_category(lists):
        return np.mean([planted.category[lists[u][0][:3]] == planted.category[1 + u % 60] for u in range(60)])

    assert same_category(whole) > 0.8  # 4 of a user's 59 candidates have the user's category
    without = Fusion(TWO, blend, replace(saved, categories=Categories.none(61)))
    assert same_category(collect(rank(models, histories, search, ListRequest(without, length=20)))) < 0.4
    assert in_batches(models, histories, search, request, 7) == whole


def test_a_file_without_a_ranker_or_with_a_ranker_of_other_models_is_refused(text, tmp_path):
    path = tmp_path / "ranker.txt"
    with pytest.raises(InputUnreadable, match="No such file"):
        ranker.load(str(path), TWO)
    path.write_text("tree\nrubbish")
    with pytest.raises(InputUnreadable, match="is not a ranker of popularity, als"):
        ranker.load(str(path), TWO)
    path.write_text(text)
    assert ranker.load(str(path), TWO) is ranker.load(str(path), TWO)
    with pytest.raises(InputUnreadable, match="its features are zscore_popularity, zscore_als"):
        ranker.load(str(path), ("popularity", "network"))


def test_a_night_without_a_ranker_does_not_import_lightgbm():
    code = (
        "import sys, recsys_spark.stages.score.stage, recsys_spark.stages.score.lists; "
        "assert 'lightgbm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
