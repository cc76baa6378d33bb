"""Bounds in bfloat16 against the exact scores they stand for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.models.heap import Best, Hidden
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import BFLOAT16
from recsys_spark.topk import screen

needs_bfloat16 = pytest.mark.skipif(not screen.available(), reason="the processor does not multiply bfloat16 matrices")


def vectors(rng, n, factors, kind, scale):
    if kind == "halfway":  # every number lies in the middle between two of bfloat16
        exponents = rng.integers(-3, 4, (n, factors))
        found = (1 + (2 * rng.integers(0, 128, (n, factors)) + 1) * 2.0**-8) * 2.0**exponents
        found *= rng.choice([-1, 1], (n, factors))
    elif kind == "alike":  # what is rounded is rounded the same way throughout
        found = np.full((n, factors), 1 + 2.0**-8) + rng.choice([1e-6, -1e-6], (n, 1))
    else:
        found = rng.standard_normal((n, factors)) * np.exp(rng.normal(0, 2, (n, 1)))
    return (found * scale).astype(np.float32)


@needs_bfloat16
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    factors=st.sampled_from([1, 3, 64, 257, 4000]),
    kinds=st.tuples(*[st.sampled_from(["halfway", "alike", "normal"])] * 2),
    scale=st.sampled_from([1e-5, 1.0, 1e8]),
)
def test_bounds_are_above_the_scores_and_by_no_more_than_they_say(seed, factors, kinds, scale):
    rng = np.random.default_rng(seed)
    users, items = (vectors(rng, n, factors, kind, scale) for n, kind in zip((20, 70), kinds))
    left, right = screen._narrow(users, of_users=True), screen._narrow(items)
    bounds = screen._floats(screen._bounds(left, right))[:20, :70].astype(np.float64)
    exact = users.astype(np.float64) @ items.astype(np.float64).T
    assert (bounds + BFLOAT16 * abs(bounds) >= exact).all()
    lengths, losses = screen._floats(right[:70, -2:]).astype(np.float64).T
    allowed = screen._floats(left[:20, -2:]).astype(np.float64) @ np.stack([lengths, losses])
    assert (bounds - BFLOAT16 * abs(bounds) - 2 * allowed <= exact).all()
    whole = np.linalg.norm(items.astype(np.float64), axis=1)
    assert (lengths >= whole).all()
    np.testing.assert_allclose(lengths, whole, rtol=0.01)
    assert (allowed <= 2.2 * BFLOAT16 * np.outer(np.linalg.norm(users.astype(np.float64), axis=1), whole)).all()


def test_numbers_are_rounded_as_torch_rounds_them():
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers) & (abs(numbers) > 1e-9) & (abs(numbers) < 1e14)][:, None]
    found = screen._narrow(numbers)[:, 0]
    np.testing.assert_array_equal(found, torch.from_numpy(numbers[:, 0]).bfloat16().view(torch.int16).numpy())


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e16, 1e-11])
def test_what_is_no_number_too_long_or_too_short_is_not_narrowed(number):
    numbers = np.ones((3, 2), np.float32)
    assert screen._narrow(numbers) is not None
    numbers[1] = number
    assert screen._narrow(numbers) is None
    numbers[1] = 0
    assert screen._narrow(numbers)[1].tolist() == [0, 0, 0, 0]


def test_order_is_that_of_the_numbers():
    numbers = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[numbers.isfinite()]
    values, bits = numbers.float().numpy(), numbers.view(torch.int16).numpy()
    order = np.array([screen._order(b) for b in bits])
    by_value = np.argsort(values, kind="stable")
    assert (np.diff(values[by_value]) >= 0).all()
    ascending = order[by_value]
    assert (np.diff(ascending)[np.diff(values[by_value]) > 0] > 0).all()
    for number in np.float32([0.0, 1.0, -1.0, 1.001, -1.001, 3e-5, -3e-5, -np.inf, 1e30]):
        above = values[order > screen._below(number)].astype(np.float64)
        below = values[order <= screen._below(number)].astype(np.float64)
        # what is not looked at cannot have been rounded from a number above
        assert (below + BFLOAT16 * abs(below) <= number).all()
        # and little else is looked at
        assert (above >= number - 2.01 * BFLOAT16 * abs(number)).all()
    assert not (order > screen._below(np.float32(np.inf))).any()


@needs_bfloat16
@pytest.mark.parametrize("width", [1, 64, 1024])
def test_floors_are_reached_by_as_many_items_as_the_list_is_long(width):
    rng = np.random.default_rng(1)
    items, users = (
        rng.standard_normal((6000, 16)).astype(np.float32),
        rng.standard_normal((40, 16)).astype(np.float32),
    )
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    # the best that a user could get, had they not had it already
    rows = [np.argsort(-row[:2000])[:9].tolist() for row in scores]
    hidden = Hidden(np.arange(6000) % 7 == 0, Histories.of(rows))
    best = Best(hidden, 5, np.full(40, 1e-6, np.float32))
    assert screen._raise_floors(best, screen._narrow(users, of_users=True), items, width)
    for user, row in enumerate(rows):
        allowed = np.setdiff1d(np.flatnonzero(~hidden.banned), row)
        assert np.sort(scores[user, allowed])[-5] > best.floors[user] > np.median(scores[user])
