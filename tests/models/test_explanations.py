"""Reasons against naive sums: a score is taken to pieces, one a history item, and the largest piece is the reason."""

from dataclasses import replace

import numpy as np
import pytest

from models.model_contract import all_scores, make_histories
from models.test_als import FACTORS, OBJECTIVE
from models.test_item_knn import model_of, random_table
from recsys_spark.models.als import AlsModel
from recsys_spark.models.histories import Histories
from recsys_spark.models.ridge import gram_of
from stages.baselines.local import random_matrix
from stages.baselines.test_svd import FULL as FILTER
from stages.baselines.test_svd import PURE
from stages.baselines.test_svd import fit as fit_svd
from stages.baselines.test_svd import lists_of as svd_lists
from stages.baselines.test_svd import naive as naive_svd
from stages.baselines.test_user_knn import FORMULAS
from stages.baselines.test_user_knn import fit as fit_users
from stages.baselines.test_user_knn import lists_of as user_lists


def each_user(histories):
    """(row, its history as an array of items, oldest first, and their weights)."""
    for user in range(len(histories)):
        part = slice(histories.indptr[user], histories.indptr[user + 1])
        yield user, histories.items[part], histories.weights[part]


def unseen(model, histories):
    """int32 [B, I]: every item of the model, 0 in the place of what the user has."""
    items = np.tile(np.arange(model.n_items, dtype=np.int32), (len(histories), 1))
    for user, own, _ in each_user(histories):
        items[user, own] = 0
    return items


def assert_largest(model, histories, pieces, sums=True):
    """`pieces` of a user's (history, weights): float64 [history, I]. Where `sums`, they are checked to make up the score."""
    items = unseen(model, histories)
    found = model.explain(histories, model.encode(histories), items)
    assert found.shape == items.shape and found.dtype == np.int32
    scores, given = all_scores(model, histories), 0
    for user, own, weights in each_user(histories):
        parts = np.atleast_2d(pieces(own, weights)) if len(own) else np.zeros((0, model.n_items))
        scale = max(np.abs(parts).max(initial=0), 1e-6)
        if sums:
            np.testing.assert_allclose(
                parts.sum(axis=0)[1:], scores[user, 1:], rtol=1e-3, atol=1e-5 * scale * (1 + len(own))
            )
        for item in range(model.n_items):
            reason, best = found[user, item], parts[:, item].max(initial=0)
            if items[user, item] == 0 or best <= 0:
                assert reason == 0
            elif best > 1e-6 * scale:
                own_part = parts[np.flatnonzero(own == reason)[0], item]
                assert own_part >= best - 1e-6 * scale
                given += 1
    assert given > 50
    return found


def test_of_neighbours_it_is_the_largest_similarity():
    table = random_table()
    assert_largest(model_of(table), make_histories(19), lambda own, _: table[own])


@pytest.mark.parametrize("powers", [FILTER, PURE])
def test_of_the_filter_it_is_the_item_that_alone_would_score_most(tmp_path, powers):
    matrix = random_matrix()
    model, histories = fit_svd(tmp_path, matrix, **powers), Histories.of(svd_lists(matrix))
    assert_largest(model, histories, lambda own, _: naive_svd(matrix, [[j] for j in own.tolist()], 6, **powers))


@pytest.mark.parametrize("exponent", [0.0, 0.8])
def test_of_factors_it_is_the_largest_term_of_the_fold_in(exponent):
    items = np.random.default_rng(4).normal(0, 0.3, (30, FACTORS)).astype(np.float32)
    items[0] = 0
    objective = replace(OBJECTIVE, regularization_exponent=exponent)
    model = AlsModel(30, vars(objective), {"items": items, "gram": gram_of(items).astype(np.float32)})

    def pieces(own, weights):
        y, w = items[own].astype(float), 1 + objective.confidence * weights.astype(float)
        matrix = objective.unobserved_weight * (items.T.astype(float) @ items) + y.T @ (w[:, None] * y)
        matrix += objective.regularization * len(own) ** exponent * np.eye(FACTORS)
        return w[:, None] * y @ np.linalg.inv(matrix) @ items.T

    assert_largest(model, make_histories(30), pieces)


@pytest.mark.parametrize("similarity", FORMULAS)
@pytest.mark.parametrize("neighbours", [3, 1000])
def test_of_users_it_is_the_share_of_the_neighbours_similarities(tmp_path, similarity, neighbours):
    matrix = random_matrix()
    model = fit_users(tmp_path, matrix, similarity=similarity, neighbours=neighbours)
    a, centre = model.arrays, model.parameters["centre"]
    rows = np.split(np.asarray(a["user_items"]), a["user_indptr"][1:-1])
    targets = np.ones(30)
    targets[a["user_items"]] = a["user_targets"]

    def pieces(own, _):
        encoded, parts = model.encode(Histories.of([own.tolist()])), np.zeros((len(own), 30))
        for v, similar in zip(encoded.indices, encoded.data):
            made_of = a["weights"][own] * (np.isin(own, rows[v]) - a["masses"][v] * centre)
            parts[:, rows[v]] += (similar * made_of / made_of.sum())[:, None]
        return parts * targets

    assert_largest(model, Histories.of(user_lists(matrix)), pieces)


def test_of_equals_the_newest_is_the_reason():
    table = np.zeros((9, 9))
    table[1:5, 6] = 0.25, 0.5, 0.5, 0.125
    for own in ([1, 2, 3, 4], [3, 4, 2, 1], [2, 3]):
        histories = Histories.of([own])
        model = model_of(table)
        found = model.explain(histories, model.encode(histories), np.array([[6]], np.int32))
        assert found.tolist() == [[max(2, 3, key=own.index)]]


def test_what_speaks_against_an_item_is_no_reason(tmp_path):
    """Items 1 and 2 stand opposite each other."""
    items = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [1, 1]], np.float32)
    model = AlsModel(5, vars(OBJECTIVE), {"items": items, "gram": gram_of(items).astype(np.float32)})
    histories = Histories.of([[1], [2], [1, 3]])
    found = model.explain(histories, model.encode(histories), np.array([[2, 4], [1, 4], [2, 4]], np.int32))
    assert found[:2].tolist() == [[0, 1], [0, 0]]
    assert found[2, 1] in (1, 3)
