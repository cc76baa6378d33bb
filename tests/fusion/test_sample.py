"""The sample: what is kept of it, how it is parted, and that it forgets a model as if there had never been one."""

import pyarrow as pa

from fusion.synthetic_sample import NAMES, make_sample, noise, popularity_of
from recsys_spark.fusion.sample import SCHEMA, Sample
from recsys_spark.metrics.categories import Categories


def table(rows):
    names = ("user_idx", "history", "segment", "item_idx", "scores", "held_out")
    return pa.Table.from_pylist([dict(zip(names, row)) for row in rows], SCHEMA)


def test_rows_in_any_order_and_users_who_tell_nothing():
    rows = [
        (9, [1, 3, 5], "a", [2, 5, 7], [1, 2, 3, 30, 20, 10], [7, 99]),
        (4, [6, 4], None, [1, 5], [5, 6, 50, 60], [2]),  # 2 is no candidate: nothing is kept but the user
        (6, [2], None, [], [], [1]),
        (7, [8, 9], "b", [3], [9, 90], [3]),
    ]
    sample = Sample.of(table(rows), ("a", "b"), popularity_of(10), Categories.none(10), depth=1)
    histories = sample.traits.histories
    assert sample.users.tolist() == [4, 6, 7, 9] and histories.lengths().tolist() == [2, 1, 2, 3]
    assert histories.items.tolist() == [6, 4, 2, 8, 9, 1, 3, 5]
    assert histories.segments == [None, None, "b", "a"]
    assert sample.held_out.tolist() == [1, 1, 1, 2] and sample.telling.tolist() == [2, 3]
    assert sample.items.tolist() == [3, 2, 5, 7]
    assert sample.scores.tolist() == [[9, 1, 2, 3], [90, 30, 20, 10]]
    assert sample.relevant.tolist() == [True, False, False, True]
    assert sample.listed.tolist() == [[True, False, False, True], [True, True, False, False]]


def test_an_empty_sample():
    sample = Sample.of(table([]), ("a", "b"), popularity_of(10), Categories.none(10), depth=1)
    assert len(sample.users) == len(sample.items) == len(sample.telling) == 0


def test_without_a_model_its_scores_and_what_only_it_listed_are_gone():
    rows = [
        (1, [4], None, [1, 2, 3], [9, 1, 1, 1, 9, 1, 1, 1, 9], [3]),  # each lists its own; 3 is c's
        (2, [4], None, [1, 2, 3], [9, 1, 1, 1, 9, 1, 1, 1, 9], [1]),
    ]
    sample = Sample.of(table(rows), ("a", "b", "c"), popularity_of(10), Categories.none(10), depth=1)
    other = sample.only(("b", "a"))
    assert other.models == ("b", "a")
    assert other.rows.lengths.tolist() == [0, 2]  # the first user's held-out item was c's alone
    assert other.items.tolist() == [1, 2] and other.scores.tolist() == [[1, 9], [9, 1]]
    assert other.listed.tolist() == [[False, True], [True, False]]
    assert other.relevant.tolist() == [True, False] and other.held_out.tolist() == [1, 1]


def test_halves_are_of_all_users_and_follow_the_user():
    scores, target = noise(2000)
    whole = make_sample(scores, target)
    one, other = whole.halves
    assert sorted([*one, *other]) == list(range(2000))
    assert 900 < len(one) < 1100
    fewer = make_sample(scores[:, :500], target[:500])
    assert fewer.halves[0].tolist() == [u for u in one if u < 500]
    assert fewer.models == NAMES
