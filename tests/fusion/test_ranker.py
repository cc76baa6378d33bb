"""The ranker: its features by hand, its shortlist, batches, and its file."""

import subprocess
import sys

import numpy as np
import pytest

from fusion.synthetic_sample import category_world, make_sample, noise, plant, popularity_of
from recsys_spark.errors import InputUnreadable
from recsys_spark.fusion import ranker
from recsys_spark.fusion.blend import Blend, Fusion, Rows
from recsys_spark.fusion.model_selection import fit_ranker
from recsys_spark.fusion.ranker_features import Traits
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.histories import Histories
from recsys_spark.stages.score.lists import Search, Wanted, rank
from stages.score.fake_models import FakeModel, random_histories

TWO = ("popularity", "als")


@pytest.fixture(scope="module")
def text():
    scores, held_out = noise(300, n_models=2)
    plant(scores, 1, held_out, 2)
    return fit_ranker(make_sample(scores, held_out, TWO), Blend("zscore", (0.25, 0.75)), length=6, k=5)


def told_of(rows, items, scores, histories, depth):
    traits = Traits.of(histories, popularity_of(90), Categories.none(90))
    return ranker.Told.of(TWO, rows, items, scores, traits, depth)


def test_it_does_without_scikit_learn_which_stays_to_be_had(text):
    code = (
        "import sys; from recsys_spark.fusion import ranker; booster = ranker.of_text(sys.stdin.read()); assert booster.num_trees() > 0; "
        "assert 'sklearn' not in sys.modules; import sklearn.base"
    )
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True)


def test_features_of_a_small_case():
    scores = np.array([[1, 2, 3, 5, 5], [4, 6, 2, 0, 8]], np.float32)
    rows = Rows.of(np.array([3, 2]))
    histories = Histories.of([[11, 12], [13]])
    told = told_of(rows, np.array([3, 5, 7, 4, 6], np.int32), scores, histories, depth=1)
    blend = np.arange(5, dtype=np.float32)
    found = dict(zip(ranker.feature_names(TWO), ranker.features(told, blend, np.array([1, 4]), np.array([0, 1])).T))
    deviation = np.sqrt(((4 - 4) ** 2 + (6 - 4) ** 2 + (2 - 4) ** 2) / 3)
    assert found["zscore_popularity"].tolist() == [0, 0]
    np.testing.assert_allclose(found["zscore_als"], [(6 - 4) / deviation, 1], rtol=1e-6)
    np.testing.assert_allclose(found["rrf_popularity"], [1 / 62, 1 / 62], rtol=1e-6)
    np.testing.assert_allclose(found["rrf_als"], [1 / 61, 1 / 61], rtol=1e-6)
    assert found["lists"].tolist() == [1, 1]  # each is als's first and popularity's second
    assert found["blend"].tolist() == [1, 4]
    assert found["popularity"].tolist() == [5, 6]  # of items 5 and 6, by popularity_of
    assert found["history"].tolist() == [2, 1]


def test_the_shortlist_is_the_blend_s_best_ties_by_item():
    blend = np.array([2, 3, 3, 1, 9, 9], np.float32)
    at, user = ranker.shortlist(blend, Rows(np.array([0, 4]), np.array([4, 1])), 3)
    assert at.tolist() == [1, 2, 0, 4] and user.tolist() == [0, 0, 0, 1]
    at, _ = ranker.shortlist(blend, Rows(np.array([0]), np.array([4])), 1)
    assert at.tolist() == [1]


def test_only_the_shortlist_has_a_score(text):
    scores, _ = noise(3, width=80, n_models=2)
    rows = Rows.of(np.full(3, 80))
    items = np.tile(np.arange(1, 81, dtype=np.int32), 3)
    told = told_of(rows, items, scores.reshape(2, -1), Histories.of([[81], [82], [83]]), depth=1000)
    blend = scores[1].ravel()
    found = ranker.rerank(ranker.of_text(text), told, blend, 6)
    assert np.isfinite(found).reshape(3, 80).sum(axis=1).tolist() == [ranker.SHORTLIST * 6] * 3
    lowest = np.where(np.isfinite(found), blend, np.inf).reshape(3, 80).min(axis=1)
    assert (lowest >= np.where(np.isfinite(found), -np.inf, blend).reshape(3, 80).max(axis=1)).all()
    some = ranker.rerank(ranker.of_text(text), told, blend, 6, np.array([2, 0])).reshape(3, 80)
    assert np.array_equal(some[[0, 2]], found.reshape(3, 80)[[0, 2]]) and np.isneginf(some[1]).all()


def collect(found):
    return {
        (r.name, int(user)): (items.tolist(), scores.tolist(), sources.tolist())
        for r in found
        for user, items, scores, sources in zip(r.users, r.items, r.scores, r.sources)
    }


def test_lists_by_the_ranker_fall_name_their_source_and_do_not_depend_on_the_batch(text, tmp_path):
    (tmp_path / "ranker.txt").write_text(text)
    models = {name: FakeModel(90, seed, name, levels=50) for seed, name in enumerate(TWO)}
    banned = np.arange(90) == 0
    what = Wanted(Fusion(TWO, Blend("zscore", (0.0, 1.0)), str(tmp_path / "ranker.txt")), length=6)
    histories = random_histories(23, 90, 12, 4)
    whole = collect(rank(models, histories, Search(banned, 40, 16), what))
    plain = collect(rank(models, histories, Search(banned, 40, 16), Wanted(Fusion(TWO, what.fusion.blend), 6)))
    known = [user for user in range(23) if histories.lengths()[user]]
    assert sum(whole["fused", user] != plain["fused", user] for user in known) > 10
    for user in known:
        items, scores, sources = whole["fused", user]
        assert scores == sorted(scores, reverse=True) and len(set(items)) == 6
        assert set(sources) == {1}  # popularity has no weight in the blend
    for size, tile in ((1, 7), (5, 1000)):
        found = {}
        for start, batch in zip(range(0, 23, size), histories.batches(size)):
            part = collect(rank(models, batch, Search(banned, 40, tile), what))
            found |= {(name, user + start): row for (name, user), row in part.items()}
        assert found == whole


def test_lists_are_told_of_the_users_own_categories_as_the_sample_was(tmp_path):
    """A ranker that only categories teach: in the lists the items of each user's own category come first, in any batch, and in the order in which the
    sample's rows would be put."""
    world = category_world(n_users=600, width=60)
    sample = make_sample(world.scores, world.held_out, TWO, categories=world.categories)
    blend = Blend("zscore", (0.5, 0.5))
    text = fit_ranker(sample, blend, length=20, k=10)
    (tmp_path / "ranker.txt").write_text(text)
    models = {"popularity": popularity_of(61), "als": FakeModel(61, 4, "als", levels=50)}
    search = Search(np.arange(61) == 0, 200, 16)
    what = Wanted(Fusion(TWO, blend, str(tmp_path / "ranker.txt"), world.categories), length=20)
    histories = Histories.of([[1 + user % 60] for user in range(60)])
    whole = collect(rank(models, histories, search, what))
    kind = world.category
    own = [np.mean(kind[whole["fused", user][0][:3]] == kind[1 + user % 60]) for user in range(60)]
    assert np.mean(own) > 0.8  # of a user's 60 items 4 more are
    blind = collect(rank(models, histories, search, Wanted(Fusion(TWO, blend, what.fusion.ranker), length=20)))
    assert np.mean([np.mean(kind[blind["fused", u][0][:3]] == kind[1 + u % 60]) for u in range(60)]) < 0.4
    found = {}
    for start, batch in zip(range(0, 60, 7), histories.batches(7)):
        part = collect(rank(models, batch, search, what))
        found |= {(name, user + start): row for (name, user), row in part.items()}
    assert found == whole


def test_a_file_that_is_no_ranker_or_of_other_models_is_refused(text, tmp_path):
    path = tmp_path / "ranker.txt"
    with pytest.raises(InputUnreadable, match="No such file"):
        ranker.load(str(path), TWO)
    path.write_text("tree\nrubbish")
    with pytest.raises(InputUnreadable, match="is not a ranker of popularity, als"):
        ranker.load(str(path), TWO)
    path.write_text(text)
    assert ranker.load(str(path), TWO) is ranker.load(str(path), TWO)
    with pytest.raises(InputUnreadable, match="it knows zscore_popularity, zscore_als"):
        ranker.load(str(path), ("popularity", "network"))


def test_a_night_of_the_blend_does_not_load_lightgbm():
    code = "import sys, recsys_spark.stages.score.stage, recsys_spark.stages.score.lists; assert 'lightgbm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
