"""The tiled top m against a full sort in float64."""

import os
import platform
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import ContractViolation
from recsys_spark.jit import processor_has
from recsys_spark.models import base
from recsys_spark.models.als import FactorModel
from recsys_spark.models.heap import Hidden
from recsys_spark.models.histories import Histories
from recsys_spark.topk import gpu, products, screen
from recsys_spark.topk import search as topk
from recsys_spark.topk.search import top_candidates
from stages.score.fake_models import FakeModel, random_histories

DEVICES = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu"]
"""Where the search for a GPU can be run: on a processor too, if slower than its own."""


def full_sort(model, histories, m, banned):
    """The oracle: every allowed item of every user, sorted by (-score, item)."""
    scores = model.encode(histories).astype(np.float64)
    lists = []
    for user in range(len(histories)):
        seen = set(histories.items[histories.indptr[user] : histories.indptr[user + 1]].tolist())
        allowed = [i for i in range(1, model.n_items) if i not in seen and not banned[i]]
        best = sorted(allowed, key=lambda i: (-scores[user, i], i))[:m]
        lists.append([(i, scores[user, i]) for i in best] + [(0, -np.inf)] * (m - len(best)))
    items = np.array([[i for i, _ in row] for row in lists]).reshape(len(histories), m)
    return items, np.array([[s for _, s in row] for row in lists]).reshape(len(histories), m)


@settings(max_examples=150, deadline=None)
@given(
    n_users=st.integers(1, 9),
    n_items=st.integers(2, 40),
    m=st.integers(1, 45),
    tile=st.integers(1, 50),
    levels=st.sampled_from([1, 2, 3, 1000]),
    share_banned=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_equals_a_full_sort_for_any_batch_tile_and_length(n_users, n_items, m, tile, levels, share_banned, seed):
    model = FakeModel(n_items, seed, levels=levels)
    histories = random_histories(n_users, n_items, 8, seed)
    banned = np.random.default_rng(seed).random(n_items) < share_banned
    banned[0] = True
    items, scores = top_candidates(model, model.encode(histories), Hidden(banned, histories), m, tile)
    expected_items, expected_scores = full_sort(model, histories, m, banned)
    np.testing.assert_array_equal(items, expected_items)
    np.testing.assert_array_equal(scores, expected_scores)
    assert (items.dtype, scores.dtype) == (np.int32, np.float32)


def test_a_batch_is_the_sum_of_its_users():
    model, histories, banned = FakeModel(60, 1), random_histories(20, 60, 30, 1), np.zeros(60, bool)
    banned[0] = True
    whole = top_candidates(model, model.encode(histories), Hidden(banned, histories), 10, 16)
    for size in (1, 7):
        parts = [top_candidates(model, model.encode(h), Hidden(banned, h), 10, 16) for h in histories.batches(size)]
        for part, one in zip(zip(*parts), whole):
            np.testing.assert_array_equal(np.concatenate(part), one)


def test_memory_is_that_of_the_batch_however_many_items_there_are(tmp_path):
    def peak(n_items):
        """Bytes that a batch of 60 users takes, whose histories have some 1,500 items, of a model that was saved."""
        rng = np.random.default_rng(5)
        histories = random_histories(60, n_items, 50, 5)
        items = rng.standard_normal((n_items, 4), np.float32)
        base.save(tmp_path / "als", FactorModel(n_items, {}, {"items": items}))
        users, banned = rng.standard_normal((60, 4), np.float32), np.arange(n_items) == 0
        hidden = Hidden(banned, histories)
        tracemalloc.start()
        try:
            model = base.load(tmp_path / "als", {"als": FactorModel})
            top_candidates(model, users, hidden, 10, 1024)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100_000)  # loads what is compiled
    assert peak(800_000) < peak(100_000) + 64_000


@contextmanager
def bounds_first():
    """As on a processor that multiplies bfloat16, of whatever is asked; yields the mock of `screen.offer_screened`."""
    with (
        mock.patch.object(topk, "MANY", 0),
        mock.patch.object(products, "PROBED", 0),
        mock.patch.object(topk, "processor_has", lambda _: True),
        mock.patch.object(screen, "available", lambda: True),
        mock.patch.object(screen, "offer_screened", wraps=screen.offer_screened) as screened,
    ):
        yield screened


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_items=st.sampled_from([30, 500, 1500]),
    factors=st.sampled_from([1, 8, 64]),
    alike=st.booleans(),
    device=st.sampled_from([None, *DEVICES]),
    tile_bytes=st.sampled_from([1, 4 * 9 * 1024, gpu.TILE_BYTES]),
    bounds=st.booleans(),
    scale=st.sampled_from([1.0, 1e-16, 1e16]),
    spread=st.sampled_from([0.0, 0.3, 2.0]),
)
def test_factors_give_the_lists_of_float64_for_any_batch_tile_and_device(
    seed, n_items, factors, alike, device, tile_bytes, bounds, scale, spread
):
    """The longer a vector the sooner it is looked at, and many are never, when lengths have a `spread` (powers of ten). `alike`: item vectors that differ by less than a float32 product can tell, so that batches and tiles would disagree. `bounds` in
    bfloat16 come first where the vectors' `scale` allows it, whatever the processor; on a device they always do."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((n_items, factors)).astype(np.float32)
    if alike:
        items = (items[:1] + 1e-7 * items).astype(np.float32)
    items *= (10.0 ** rng.uniform(-spread, spread, (n_items, 1))).astype(np.float32)
    items[rng.integers(0, n_items, n_items // 4)] = items[1]  # ties
    items[rng.integers(0, n_items, n_items // 8)] = 0
    items = (items * scale).astype(np.float32)
    model = FactorModel(n_items, {}, {"items": items})
    users = rng.standard_normal((9, factors)).astype(np.float32)
    users[3] = 0
    histories = random_histories(9, n_items, 20, seed)
    hidden = Hidden(np.arange(n_items) % 10 == 0, histories)
    exact = (users.astype(np.float64) @ items.astype(np.float64).T).astype(np.float32)
    for tile in (7, 64, 1024):
        for size in (1, 4, 9):
            for lo in range(0, 9, size):
                batch = users[lo : lo + size], hidden.rows(lo, min(lo + size, 9))
                with (
                    mock.patch.object(gpu, "TILE_BYTES", tile_bytes),
                    mock.patch.object(products, "ZEROS", 7),
                    bounds_first() if bounds else nullcontext(),
                ):
                    found, scores = top_candidates(model, *batch, 6, tile, device)
                for user, row in enumerate(found, start=lo):
                    mine = histories.items[histories.indptr[user] : histories.indptr[user + 1]]
                    allowed = np.setdiff1d(np.flatnonzero(~hidden.banned), mine)
                    best = allowed[np.lexsort((allowed, -exact[user, allowed]))][:6]
                    np.testing.assert_array_equal(row[: len(best)], best)
                    np.testing.assert_array_equal(scores[user - lo][: len(best)], exact[user, best])


def test_who_is_surely_done_is_left_alone():
    """Most vectors are little more than their first number, which is all that users 10 to 19 look at: they find their best among the longest."""
    rng = np.random.default_rng(6)
    items = rng.standard_normal((5000, 8)).astype(np.float32) / np.arange(1, 5001, dtype=np.float32)[:, None]
    items[:, 0] = 0.1 * rng.random(5000)
    users = rng.standard_normal((20, 8)).astype(np.float32)
    users[10:] = [1, 0, 0, 0, 0, 0, 0, 0]
    hidden = Hidden(np.arange(5000) == 0, Histories.of([[]] * 20))
    with mock.patch.object(products, "_offer_panels", wraps=products._offer_panels) as offered:
        top_candidates(FactorModel(5000, {}, {"items": items}), users, hidden, 5, 1024)
    asked = [call.args[0] for call in offered.call_args_list]
    assert len(asked[0]) == 20 and 0 < len(asked[1]) < 10 and max(asked[1]) < 10


@pytest.mark.parametrize("many", [0, 1 << 60])
def test_a_processor_of_bfloat16_is_asked_where_many_products_are_left(many):
    rng = np.random.default_rng(7)
    even = rng.standard_normal((5000, 8)).astype(np.float32)
    users = rng.standard_normal((9, 8)).astype(np.float32)
    hidden = Hidden(np.arange(5000) == 0, Histories.of([[]] * 9))
    uneven = even / np.arange(1, 5001, dtype=np.float32)[:, None]
    for items, asked in ((even, many == 0), (uneven, False)):
        with (
            mock.patch.object(topk, "MANY", many),
            mock.patch.object(topk, "processor_has", lambda _: True),
            mock.patch.object(screen, "available", lambda: True),
            mock.patch.object(screen, "offer_screened", wraps=screen.offer_screened) as screened,
        ):
            found = top_candidates(FactorModel(5000, {}, {"items": items}), users, hidden, 5, 1024)
        assert screened.called == asked
        with mock.patch.object(topk, "processor_has", lambda _: False):
            plain = top_candidates(FactorModel(5000, {}, {"items": items}), users, hidden, 5, 1024)
        for ours, wanted in zip(found, plain, strict=True):
            np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tile_bytes", [gpu.TILE_BYTES, 2 * 200 * 14 * 1024])
def test_products_of_bfloat16_are_enough_where_scores_are_spread(device, tile_bytes):
    """In one tile, and in two of which the second has fewer groups than are looked into. Without what they may be off by, some lists would be wrong."""
    rng = np.random.default_rng(3)
    model = FactorModel(20_000, {}, {"items": rng.standard_normal((20_000, 8)).astype(np.float32)})
    users = rng.standard_normal((200, 8)).astype(np.float32)
    hidden = Hidden(np.arange(20_000) == 0, Histories.of([[]] * len(users)))
    expected = top_candidates(model, users, hidden, 20, 1024)

    def best():
        with (
            mock.patch.object(gpu, "_search", wraps=gpu._search) as search,
            mock.patch.object(gpu, "TILE_BYTES", tile_bytes),
        ):
            items, scores, unsure = gpu.best_lists(model, users, hidden, 20, device)
        assert (search.call_count, len(unsure)) == (1, 0)
        return items, scores

    for found, wanted in zip(best(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    with (
        mock.patch.multiple(gpu, BFLOAT16=0, SUMS=0),
        mock.patch.object(gpu, "_length", lambda rows: rows.new_zeros(len(rows))),
    ):
        gpu._on_device.clear()
        assert (best()[0] != expected[0]).any()
    gpu._on_device.clear()


@pytest.mark.parametrize("device", DEVICES)
def test_who_has_too_many_alike_for_bfloat16_is_searched_by_themselves_in_float32(device):
    items = np.random.default_rng(4).standard_normal((3000, 2)).astype(np.float32)
    items[:, 0] = 1 + 1e-4 * items[:, 0]
    best = 1 + np.argsort(-items[1:, 0])
    model = FactorModel(3000, {}, {"items": items})
    users = np.array([[0, 1], [1, 0], [0, -1], [1, 0]], np.float32)
    histories = Histories.of([[1], best[:3].tolist(), [4], best[2:5].tolist()])
    hidden = Hidden(np.arange(3000) == 0, histories)
    with mock.patch.object(gpu, "_search", wraps=gpu._search) as search:
        found = gpu.best_lists(model, users, hidden, 5, device)
    (first, again), expected = search.call_args_list, top_candidates(model, users, hidden, 5, 1024)
    assert (first.kwargs, again.kwargs) == ({"short": True}, {"short": False})
    np.testing.assert_array_equal(again.args[2], users[[1, 3]])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert len(found[2]) == 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("largest", [1.0, 9.2127e18])
def test_a_device_gives_the_processor_s_lists_where_little_is_left_and_where_products_overflow(device, largest):
    rng = np.random.default_rng(5)
    items = rng.standard_normal((30, 4)).astype(np.float32)
    items[7] = 0
    items[8] = -largest  # a score that float32 can hold and bfloat16 cannot
    model, users = FactorModel(30, {}, {"items": items}), np.full((3, 4), largest, np.float32)
    everything, half = list(range(1, 30)), list(range(2, 30, 2))
    hidden = Hidden(np.arange(30) == 0, Histories.of([everything, half, []]))
    found = top_candidates(model, users, hidden, 45, 8, device)
    for ours, wanted in zip(found, top_candidates(model, users, hidden, 45, 8), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    assert (found[0] > 0).sum(axis=1).tolist() == [0, 15, 29]


@pytest.mark.parametrize("device", DEVICES)
def test_whose_score_is_half_way_between_two_float32_is_left_to_the_processor(device):
    """For a sum in another order might be rounded to the other."""
    items = np.array([[0, 0], [1, 2.0**-24], [1, 2.0**-23]], np.float32)
    model, users = FactorModel(3, {}, {"items": items}), np.array([[1, 1], [1, 0]], np.float32)
    hidden = Hidden(np.arange(3) == 0, Histories.of([[], []]))
    assert gpu.best_lists(model, users, hidden, 2, device)[2].tolist() == [0]
    found = top_candidates(model, users, hidden, 2, 8, device)
    np.testing.assert_array_equal(found, top_candidates(model, users, hidden, 2, 8))


def test_what_the_model_keeps_is_not_written_on():
    model, histories, banned = FakeModel(12, 2), Histories.of([[1, 2], [3]]), np.zeros(12, bool)
    encoded = model.encode(histories)
    before = encoded.copy()
    encoded.flags.writeable = False
    top_candidates(model, encoded, Hidden(banned, histories), 3, 100)
    np.testing.assert_array_equal(encoded, before)


def test_a_score_that_is_no_number_is_refused():
    model, histories = FakeModel(5, 0), Histories.of([[1]])
    encoded = model.encode(histories)
    encoded[0, 3] = np.nan
    with pytest.raises(ContractViolation, match=r"'als' gives NaN scores to 1 of 5"):
        top_candidates(model, encoded, Hidden(np.zeros(5, bool), histories), 2, 8)


@pytest.mark.parametrize("device", DEVICES)
def test_a_score_that_is_no_number_is_refused_by_a_device_too(device):
    items = np.ones((70, 4), np.float32)
    items[65, 2] = np.nan
    model, users = FactorModel(70, {}, {"items": items}), np.ones((3, 4), np.float32)
    hidden = Hidden(np.arange(70) == 0, Histories.of([[1], [65], [65, 66]]))
    with pytest.raises(ContractViolation, match="'als' gives NaN scores to 1 of 3 users"):
        top_candidates(model, users, hidden, 3, 64, device)
    for where in (None, device):  # of an item that nobody is shown, too
        with pytest.raises(ContractViolation, match="'als' gives NaN scores to"):
            top_candidates(model, users, Hidden(np.isin(np.arange(70), [0, 65]), Histories.of([[]] * 3)), 3, 64, where)


OTHER_PROCESSOR = """
import sys
import numpy as np
from recsys_spark.models.heap import Hidden
from recsys_spark.models.als import FactorModel
from recsys_spark.models.histories import Histories
from recsys_spark.models.tiles import ROWS, WIDE
from recsys_spark.topk.search import top_candidates

rng = np.random.default_rng(8)
items = rng.standard_normal((700, 24)).astype(np.float32)
objective = {"regularization": 1.0, "regularization_exponent": 0.5, "confidence": 3.0, "unobserved_weight": 0.1}
model = FactorModel(700, objective, {"items": items, "gram": items.T @ items})
histories = Histories.of([rng.choice(np.arange(1, 700), n, replace=False).tolist() for n in (1, 5, 20, 40, 90, 7, 3, 2, 60)])
users = rng.standard_normal((9, 24)).astype(np.float32)
items, scores = top_candidates(model, users, Hidden(np.arange(700) == 0, histories), 10, 64)
np.savez(sys.argv[1], tile=(ROWS, WIDE), items=items, scores=scores, users=model.encode(histories))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the old processor is an x86")
def test_processors_with_and_without_avx512_give_the_same_lists(tmp_path):
    """Each in a process of its own; of what an old processor lacks nothing is compiled in."""
    old = "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+lzcnt"
    found = []
    for name, env in (
        ("own", {}),
        (
            "old",
            {
                "NUMBA_CPU_NAME": "haswell",
                "NUMBA_CPU_FEATURES": old,
                "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
            },
        ),
    ):
        subprocess.run(
            [sys.executable, "-c", OTHER_PROCESSOR, tmp_path / name],
            env={**os.environ, **env},
            check=True,
        )
        found.append(np.load(tmp_path / f"{name}.npz"))
    own, other = found
    assert other["tile"].tolist() == [4, 1]
    for name in ("items", "scores"):
        np.testing.assert_array_equal(own[name], other[name])
    np.testing.assert_allclose(own["users"], other["users"], rtol=1e-4, atol=1e-5)


def test_what_the_processor_has_is_what_torch_says():
    assert processor_has("amx-bf16") == screen.available()
    assert not processor_has("no such feature")


def test_a_score_that_is_no_number_is_refused_after_bounds_too():
    items = np.ones((70, 4), np.float32)
    items[65, 2] = np.nan
    model, histories = FactorModel(70, {}, {"items": items}), Histories.of([[1], [2]])
    hidden = Hidden(np.zeros(70, bool), histories)
    with bounds_first() as screened, pytest.raises(ContractViolation, match="gives NaN scores to user 0"):
        top_candidates(model, np.ones((2, 4), np.float32), hidden, 3, 64)
    assert screened.called


@pytest.mark.parametrize("n_users", [1, 7, 9])
def test_an_infinite_item_is_nobody_else_s_fault(n_users):
    """Nor is it a score of the rows that make a batch whole, which infinity times nothing would be."""
    rng = np.random.default_rng(9)
    items = rng.standard_normal((100, 4)).astype(np.float32)
    items[40, 1] = np.inf
    users = 1 + rng.random((n_users, 4)).astype(np.float32)
    hidden = Hidden(np.arange(100) == 0, Histories.of([[]] * n_users))
    found, scores = top_candidates(FactorModel(100, {}, {"items": items}), users, hidden, 3, 64)
    assert (found[:, 0] == 40).all() and (scores[:, 0] == np.inf).all()
    users[0, 1] = 0
    with pytest.raises(ContractViolation, match=f"gives NaN scores to user 0 of a batch of {n_users}"):
        top_candidates(FactorModel(100, {}, {"items": items}), users, hidden, 3, 64)


def test_an_infinite_user_is_refused_whoever_else_is_in_the_batch():
    """The others are done shortly after item 2,500; the zero vector, of which the infinite user's score is no number, comes last."""
    rank = np.arange(1, 5001)
    items = np.zeros((5001, 2), np.float32)
    items[1:, 0] = 1 / rank
    items[1:, 1] = np.where(rank < 2500, -1.0, np.where(rank < 2600, 1.0, -1.0)) * (1 + rank % 7) / 10 / rank
    users = np.repeat(np.array([[0, 1]], np.float32), 8, axis=0)
    users[5, 1] = np.inf
    hidden = Hidden(np.arange(5001) == 0, Histories.of([[]] * 8))
    with pytest.raises(ContractViolation, match="gives NaN scores to user 5 of a batch of 8"):
        top_candidates(FactorModel(5001, {}, {"items": items}), users, hidden, 3, 64)


def test_products_too_small_for_a_float32_are_told_apart():
    """Sixty-four of them vanish one by one, though their sum is more than what the others have."""
    items = np.zeros((100, 64), np.float32)
    items[:, 0] = (5 + np.arange(100) % 26) * 2.0**-74
    items[50] = 0.98 * 2.0**-75
    model, users = FactorModel(100, {}, {"items": items}), np.full((1, 64), 2.0**-75, np.float32)
    found, scores = top_candidates(model, users, Hidden(np.arange(100) == 0, Histories.of([[]])), 3, 64)
    assert found.tolist() == [[50, 25, 51]]
    assert (scores * 2.0**149).tolist() == [[31, 30, 30]]
