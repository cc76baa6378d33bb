"""Inner products of single pairs, and the order of items by length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.models import inner_product
from recsys_spark.models.als import AlsModel


def model_of(seed: int, n: int, factors: int, spread: float = 1.0) -> AlsModel:
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((n, factors)) * 10.0 ** rng.uniform(-spread, spread, (n, 1))
    return AlsModel(n, {}, {"items": items.astype(np.float32)})


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), factors=st.sampled_from([1, 7, 16, 64, 65, 200]), spread=st.sampled_from([0, 3]))
def test_scores_of_pairs_equal_float64_up_to_rounding(seed, factors, spread):
    model, rng = model_of(seed, 30, factors, spread), np.random.default_rng(seed)
    users, items = rng.standard_normal((5, factors)).astype(np.float32), rng.integers(0, 30, (5, 11)).astype(np.int32)
    vectors = model.vectors[items]
    exact = np.einsum("bf,bcf->bc", users.astype(np.float64), vectors.astype(np.float64))
    scale = np.linalg.norm(users, axis=1)[:, None] * np.linalg.norm(vectors, axis=2)
    assert (np.abs(model.score_items(users, items) - exact) <= 1e-6 * scale).all()


@pytest.mark.parametrize("rows", [7, 1 << 16])
def test_items_come_longest_first(monkeypatch, rows):
    monkeypatch.setattr(inner_product, "_ROWS", rows)
    model = model_of(0, 100, 4)
    items, lengths = model.by_length
    assert sorted(items) == list(range(100)) and (np.diff(lengths) <= 0).all()
    np.testing.assert_allclose(lengths, np.linalg.norm(model.vectors[items], axis=1), rtol=1e-6)


def test_a_nan_comes_before_the_longest():
    model = model_of(0, 50, 4)
    model.vectors[30, 0], model.vectors[20, 1] = np.nan, 1e15
    assert model.by_length[0][:2].tolist() == [30, 20]
