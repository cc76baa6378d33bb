"""Inner products: exactly rounded by pair, and within their margin by tile."""

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.models import base, inner_product
from recsys_spark.models.als import FactorModel
from recsys_spark.models.inner_product import by_length, margins, pair_scores
from recsys_spark.models.llvm import LANES


def vectors(seed, n, factors, spread):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, factors)) * 10.0 ** rng.uniform(-spread, spread, (n, 1))).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), factors=st.sampled_from([1, 7, 16, 64, 65, 200]), spread=st.sampled_from([0, 3]))
def test_pair_scores_are_float64_products_rounded_once(seed, factors, spread):
    users, table = vectors(seed, 5, factors, spread), vectors(seed + 1, 30, factors, spread)
    items = np.random.default_rng(seed).integers(0, 30, (5, 11)).astype(np.int32)
    exact = np.einsum("bf,bcf->bc", users.astype(np.float64), table[items].astype(np.float64))
    scale = np.linalg.norm(users, axis=1)[:, None] * np.linalg.norm(table[items], axis=2)
    found = pair_scores(users, table, items)
    # half a unit in the last place, and what float64 itself rounds
    assert (np.abs(found - exact) <= 0.5 * np.spacing(np.abs(found)) + 1e-14 * scale).all()
    one_by_one = np.concatenate([pair_scores(users[b : b + 1], table, items[b : b + 1]) for b in range(5)])
    np.testing.assert_array_equal(found, one_by_one)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), factors=st.sampled_from([1, 16, 64, 200]))
def test_products_of_matrices_stay_within_half_the_margin(seed, factors):
    users, table = vectors(seed, 5, factors, 2), vectors(seed + 1, 30, factors, 2)
    every = np.broadcast_to(np.arange(30, dtype=np.int32), (5, 30))
    off = np.abs((users @ table.T).astype(np.float64) - pair_scores(users, table, every))
    assert (off.max(axis=1) <= margins(users, by_length(table)[1][0]) / 2).all()


def test_rows_come_longest_first_in_whatever_slices_they_are_measured(monkeypatch):
    table = vectors(0, 100, 4, 1)
    table[70] = 0
    rows, longest = by_length(table)
    lengths = np.linalg.norm(table.astype(np.float64), axis=1)
    assert sorted(rows) == list(range(100))
    assert (np.diff(lengths[rows]) <= lengths[rows][1:] * 1e-7).all()
    firsts = lengths[rows[::LANES]]
    assert (longest >= firsts).all() and (longest <= firsts * (1 + 3e-7)).all()
    monkeypatch.setattr("recsys_spark.models.inner_product.ROWS", 7)
    for found, expected in zip(by_length(table), (rows, longest), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_saved_model_has_them_beside_it(tmp_path):
    model = FactorModel(100, {}, {"items": vectors(0, 100, 4, 1)})
    base.save(tmp_path / "als", model)
    loaded = base.load(tmp_path / "als", {"als": FactorModel})
    with mock.patch.object(inner_product, "by_length", side_effect=AssertionError):
        for found, expected in zip(loaded.by_length, model.by_length, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_what_has_a_nan_counts_as_longer_than_anything():
    table = vectors(0, 50, 4, 1)
    table[30, 0], table[20, 1] = np.nan, np.inf
    rows, longest = by_length(table)
    assert rows[:2].tolist() == [30, 20] and np.isnan(longest[0])
    np.testing.assert_array_equal(np.isnan(margins(np.ones((2, 4), np.float32), longest[0])), True)


def test_a_margin_is_zero_where_every_product_is():
    users = np.array([[0, 0], [1e-30, 0]], np.float32)
    assert (margins(users, 1e-15) > 0).tolist() == [False, True]
    assert (margins(users, 0.0) == 0).all()
