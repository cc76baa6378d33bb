import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys_spark.errors import ContractViolation
from recsys_spark.metrics.ranking import METRICS, hit_matrix, ndcg, user_metrics

N_ITEMS = 30


def measure(lists, positives, k):
    """Return metric -> [B, M] of `lists` [B][M][K] and each user's `positives`."""
    indptr = np.concatenate([[0], np.cumsum([len(p) for p in positives])])
    hits = hit_matrix(np.array(lists, np.int32), indptr, np.array([i for p in positives for i in p], np.int32))
    return user_metrics(hits, np.diff(indptr), k)


def naive(ranked, positives, k):
    """Return every metric of one list by its definition, one item after the other."""
    hits = [item in positives for item in ranked[:k] if item]
    found = sum(hits)
    recall, precision = found / len(positives), found / k
    precisions = [sum(hits[: at + 1]) / (at + 1) for at, hit in enumerate(hits) if hit]
    best = min(k, len(positives))
    gain = sum(1 / math.log2(at + 2) for at, hit in enumerate(hits) if hit)
    return {
        "recall": recall,
        "precision": precision,
        "f1": 2 * recall * precision / (recall + precision) if found else 0.0,
        "ndcg": gain / sum(1 / math.log2(at + 2) for at in range(best)),
        "map": sum(precisions) / best,
        "mrr": 1 / (hits.index(True) + 1) if found else 0.0,
        "hit_rate": float(found > 0),
    }


@st.composite
def cases(draw):
    """Draw lists [B][M][K] padded with 0, positives [B] and k."""
    n_users, n_models, length = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    items = st.integers(1, N_ITEMS)

    def ranked():
        own = draw(st.lists(items, max_size=length, unique=True))
        return own + [0] * (length - len(own))

    lists = [[ranked() for _ in range(n_models)] for _ in range(n_users)]
    positives = [draw(st.lists(items, min_size=1, max_size=12, unique=True)) for _ in range(n_users)]
    return lists, positives, draw(st.integers(1, length + 2))


def test_one_list_by_hand():
    found = measure([[[7, 1, 8, 2]]], [[1, 2, 3]], 4)
    expected = {
        "recall": 2 / 3,
        "precision": 2 / 4,
        "f1": 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4),
        "ndcg": (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / math.log2(4)),
        "map": 1 / 3 * (1 / 2 + 2 / 4),
        "mrr": 1 / 2,
        "hit_rate": 1.0,
    }
    assert {name: values[0, 0] for name, values in found.items()} == pytest.approx(expected)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equal_to_the_naive_loop(case):
    lists, positives, k = case
    found = measure(lists, positives, k)
    assert set(found) == set(METRICS)
    for user, models in enumerate(lists):
        for model, ranked in enumerate(models):
            expected = naive(ranked, set(positives[user]), k)
            assert {name: values[user, model] for name, values in found.items()} == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.permutations(range(1, N_ITEMS + 1)),
    st.sets(st.integers(1, N_ITEMS), min_size=1),
    st.integers(1, N_ITEMS),
)
def test_ndcg_equals_scikit_learn(ranked, positives, k):
    relevant = np.array([[float(item in positives) for item in ranked]])
    scores = np.arange(len(ranked), 0, -1, dtype=float)[None]
    found = measure([[ranked]], [sorted(positives)], k)["ndcg"][0, 0]
    assert found == pytest.approx(ndcg_score(relevant, scores, k=k))


def test_users_do_not_share_positives():
    found = measure([[[1]], [[1]]], [[1], [2]], 1)
    assert found["recall"].ravel().tolist() == [1.0, 0.0]


def test_a_user_without_positives_has_an_ndcg_of_0():
    hits = np.array([[False, False], [True, True]])
    assert ndcg(hits, np.array([0, 2]), 2).tolist() == [0.0, 1.0]


def test_a_user_without_positives_is_an_error():
    with pytest.raises(ContractViolation, match="table positives: a user has no items"):
        measure([[[1]], [[1]]], [[1], []], 1)
