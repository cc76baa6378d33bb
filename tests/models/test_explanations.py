"""Explanations against naive sums: the history item with the largest term of a score explains it."""

from dataclasses import replace

import numpy as np
import pytest

from models.model_contract import all_scores, make_histories
from models.test_als import FACTORS, OBJECTIVE
from models.test_item_knn import model_of, random_table
from recsys_spark.models.als import AlsModel
from recsys_spark.models.histories import Histories
from stages.baselines.local import random_matrix
from stages.baselines.test_svd import FULL as WEIGHTED
from stages.baselines.test_svd import PURE
from stages.baselines.test_svd import fit as fit_svd
from stages.baselines.test_svd import lists_of as svd_lists
from stages.baselines.test_svd import naive as naive_svd
from stages.baselines.test_user_knn import FORMULAS
from stages.baselines.test_user_knn import fit as fit_users
from stages.baselines.test_user_knn import lists_of as user_lists


def each_user(histories):
    """Yield (row, items of its history, oldest first, their weights)."""
    for user in range(len(histories)):
        part = slice(histories.indptr[user], histories.indptr[user + 1])
        yield user, histories.items[part], histories.weights[part]


def unseen(model, histories):
    """Return int32 [B, I]: every item of the model, 0 instead of the items of the history."""
    items = np.tile(np.arange(model.n_items, dtype=np.int32), (len(histories), 1))
    for user, own, _ in each_user(histories):
        items[user, own] = 0
    return items


def assert_largest(model, histories, terms_of):
    """Check that explanations are the largest terms, and that the terms add up to the scores.

    `terms_of(history, weights)` returns float64 [history, I].
    """
    items = unseen(model, histories)
    sources = model.explain(histories, model.encode(histories), items)
    assert sources.shape == items.shape and sources.dtype == np.int32
    scores, explained = all_scores(model, histories), 0
    for user, own, weights in each_user(histories):
        terms = np.atleast_2d(terms_of(own, weights)) if len(own) else np.zeros((0, model.n_items))
        scale = max(np.abs(terms).max(initial=0), 1e-6)
        rounding = 1e-5 * scale * (1 + len(own))
        np.testing.assert_allclose(terms.sum(axis=0)[1:], scores[user, 1:], rtol=1e-3, atol=rounding)
        for item in range(model.n_items):
            source, best = sources[user, item], terms[:, item].max(initial=0)
            if items[user, item] == 0 or best <= 0:
                assert source == 0
            elif best > 1e-6 * scale:
                assert terms[np.flatnonzero(own == source)[0], item] >= best - 1e-6 * scale
                explained += 1
    assert explained > 50


def test_item_tables_are_explained_by_the_largest_similarity():
    table = random_table()
    assert_largest(model_of(table), make_histories(19), lambda own, _: table[own])


@pytest.mark.parametrize("powers", [WEIGHTED, PURE])
def test_svd_is_explained_by_the_item_with_the_largest_score_alone(tmp_path, powers):
    matrix = random_matrix()
    model, histories = fit_svd(tmp_path, matrix, **powers), Histories.of(svd_lists(matrix))
    assert_largest(model, histories, lambda own, _: naive_svd(matrix, [[j] for j in own.tolist()], 6, **powers))


@pytest.mark.parametrize("exponent", [0.0, 0.8])
def test_als_is_explained_by_the_largest_term_of_the_fold_in(exponent):
    items = np.random.default_rng(4).normal(0, 0.3, (30, FACTORS)).astype(np.float32)
    items[0] = 0
    objective = replace(OBJECTIVE, regularization_exponent=exponent)
    model = AlsModel.of(objective, items)

    def terms_of(own, weights):
        y, w = items[own].astype(float), 1 + objective.confidence * weights.astype(float)
        matrix = objective.unobserved_weight * (items.T.astype(float) @ items) + y.T @ (w[:, None] * y)
        matrix += objective.regularization * len(own) ** exponent * np.eye(FACTORS)
        return w[:, None] * y @ np.linalg.inv(matrix) @ items.T

    assert_largest(model, make_histories(30), terms_of)


@pytest.mark.parametrize("similarity", FORMULAS)
@pytest.mark.parametrize("neighbours", [3, 1000])
def test_user_knn_is_explained_by_shares_of_the_neighbours_similarities(tmp_path, similarity, neighbours):
    matrix = random_matrix()
    model = fit_users(tmp_path, matrix, similarity=similarity, neighbours=neighbours)
    a, centre = model.arrays, model.parameters["centre"]
    rows = np.split(np.asarray(a["user_items"]), a["user_indptr"][1:-1])
    targets = np.ones(30)
    targets[a["user_items"]] = a["user_targets"]

    def terms_of(own, _):
        encoded, parts = model.encode(Histories.of([own.tolist()])), np.zeros((len(own), 30))
        for v, similar in zip(encoded.indices, encoded.data, strict=True):
            made_of = a["weights"][own] * (np.isin(own, rows[v]) - a["masses"][v] * centre)
            parts[:, rows[v]] += (similar * made_of / made_of.sum())[:, None]
        return parts * targets

    assert_largest(model, Histories.of(user_lists(matrix)), terms_of)


def test_of_equal_terms_the_newest_item_explains():
    table = np.zeros((9, 9))
    table[1:5, 6] = 0.25, 0.5, 0.5, 0.125
    for own in ([1, 2, 3, 4], [3, 4, 2, 1], [2, 3]):
        histories = Histories.of([own])
        model = model_of(table)
        sources = model.explain(histories, model.encode(histories), np.array([[6]], np.int32))
        assert sources.tolist() == [[max(2, 3, key=own.index)]]


def test_terms_below_zero_do_not_explain(tmp_path):
    """The vectors of the items 1 and 2 are opposite."""
    items = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [1, 1]], np.float32)
    model = AlsModel.of(OBJECTIVE, items)
    histories = Histories.of([[1], [2], [1, 3]])
    sources = model.explain(histories, model.encode(histories), np.array([[2, 4], [1, 4], [2, 4]], np.int32))
    assert sources[:2].tolist() == [[0, 1], [0, 0]]
    assert sources[2, 1] in (1, 3)
