"""The sample: the users it keeps, its halves, and the sample without a model."""

import numpy as np
import pyarrow as pa

from fusion.synthetic_sample import make_sample, noise, popularity_of
from recsys_spark.fusion.sample import SCHEMA, Sample
from recsys_spark.hashing import hash64
from recsys_spark.metrics.categories import Categories


def table(rows):
    names = ("user_idx", "history", "segment", "item_idx", "scores", "held_out")
    return pa.Table.from_pylist([dict(zip(names, row)) for row in rows], SCHEMA)


def sample_of(rows, models, depth=1):
    return Sample.of(table(rows), models, popularity_of(10), Categories.none(10), depth)


def test_informative_users_from_rows_in_any_order():
    rows = [
        (9, [1, 3, 5], "a", [2, 5, 7], [1, 2, 3, 30, 20, 10], [7, 99]),
        (4, [6, 4], None, [1, 5], [5, 6, 50, 60], [2]),  # the held-out item 2 is not a candidate
        (6, [2], None, [], [], [1]),
        (7, [8, 9], "b", [3], [9, 90], [3]),
    ]
    sample = sample_of(rows, ("a", "b"))
    assert sample.n_users == 4 and sample.users.tolist() == [7, 9]
    assert sample.held_out.tolist() == [1, 2]
    assert sample.items.tolist() == [[3, 0, 0], [2, 5, 7]]
    assert sample.scores.tolist() == [[[9, 0, 0], [1, 2, 3]], [[90, 0, 0], [30, 20, 10]]]
    assert sample.relevant.tolist() == [[True, False, False], [False, False, True]]
    assert sample.listed[0].tolist() == [[True, False, False], [False, False, True]]
    assert sample.listed[1].tolist() == [[True, False, False], [True, False, False]]
    features = sample.user_item(np.array([1, 1], np.int32), np.array([0, 1]))
    assert features[2].tolist() == [2, 3]  # history lengths
    assert features[3].tolist() == [(8 + 9) / 2, (1 + 3 + 5) / 3]  # mean popularity: items have their index
    assert features[0].tolist() == [1, 9 - 1]  # the model knows segment a alone


def test_means_are_over_all_users():
    rows = [(u, [4], None, [1, 2], [1, 2], [1 if u < 2 else 5]) for u in range(5)]
    sample = sample_of(rows, ("popularity",))
    ndcg = np.array([1.0, 0.5])
    assert sample.mean(ndcg) == 1.5 / 5
    assert sample.over_all_users(ndcg).tolist() == [1, 0.5, 0, 0, 0]
    assert sample.over_all_users(ndcg[:, None]).shape == (5, 1)


def test_an_empty_sample():
    sample = sample_of([], ("a", "b"))
    assert sample.n_users == len(sample.users) == len(sample.items) == 0 and sample.mean(np.zeros(0)) == 0


def test_without_a_model_its_scores_and_the_candidates_that_it_alone_listed_are_gone():
    rows = [
        (1, [4], None, [1, 2, 3], [9, 1, 1, 1, 9, 1, 1, 1, 9], [3]),  # each model lists one item, c lists 3
        (2, [4], None, [1, 2, 3], [9, 1, 1, 1, 9, 1, 1, 1, 9], [1]),
    ]
    sample = sample_of(rows, ("a", "b", "c"))
    other = sample.only(("b", "a"))
    assert other.models == ("b", "a") and other.n_users == 2
    assert other.items.tolist() == [[1, 2, 0], [1, 2, 0]]
    assert other.scores[:, 1, :2].tolist() == [[1, 9], [9, 1]]
    assert other.listed[:, 1].tolist() == [[False, True, False], [True, False, False]]
    assert other.relevant.tolist() == [[False, False, False], [True, False, False]]
    assert other.normalised("zscore").tolist() == [[[-1, 1, 0], [-1, 1, 0]], [[1, -1, 0], [1, -1, 0]]]


def test_halves_follow_the_user():
    scores, held_out = noise(2000)
    one, other = make_sample(scores, held_out).halves
    assert sorted([*one, *other]) == list(range(2000))
    assert 900 < len(one) < 1100
    fewer = make_sample(scores[:, :500], held_out[:500])
    assert fewer.halves[0].tolist() == [u for u in one if u < 500]


def test_a_sample_of_the_users_with_the_lowest_hashes_has_even_halves():
    """The score stage samples users by their lowest hashes, all of which are negative."""
    users = np.arange(100_000)
    lowest = np.sort(users[np.argsort(hash64(users))[:2000]])
    assert (hash64(lowest) < 0).all()
    rows = [(int(u), [4], None, [1], [1], [1]) for u in lowest]
    one, other = sample_of(rows, ("popularity",)).halves
    assert 900 < len(one) < 1100 and len(one) + len(other) == 2000
