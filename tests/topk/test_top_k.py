"""`top_k` against a full sort, for every kind of model."""

import platform
import subprocess
import sys
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import ContractViolation
from recsys_spark.models import base
from recsys_spark.models.als import AlsModel
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ItemRidgeModel
from recsys_spark.topk import Exclusions, gpu, rank_candidates, top_k
from recsys_spark.topk.selection import TopK
from stages.score.fake_models import FakeModel, random_histories
from topk.reference import assert_best

DEVICES = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu"]
"""Devices for the search in torch. It also runs on a processor."""


def als(items: np.ndarray) -> AlsModel:
    return AlsModel(len(items), {}, {"items": items.astype(np.float32)})


def table_model(table: np.ndarray) -> ItemRidgeModel:
    csr = sp.csr_matrix(table.astype(np.float32))
    parts = csr.indptr.astype(np.int64), csr.indices.astype(np.int32), csr.data
    return ItemRidgeModel(len(table), {}, dict(zip(("indptr", "neighbours", "similarities"), parts)))


@settings(max_examples=150, deadline=None)
@given(
    n_users=st.integers(1, 9),
    n_items=st.integers(2, 40),
    k=st.integers(1, 45),
    tile=st.integers(1, 50),
    levels=st.sampled_from([1, 2, 3, 1000]),
    share_banned=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_tiles_equal_a_full_sort(n_users, n_items, k, tile, levels, share_banned, seed):
    """`levels`: number of different scores; few make many ties."""
    model, histories = FakeModel(n_items, seed, levels=levels), random_histories(n_users, n_items, 8, seed)
    banned = np.random.default_rng(seed).random(n_items) < share_banned
    encoded = model.encode(histories)
    assert_best(top_k(model, encoded, Exclusions(banned, histories), k, tile), encoded, histories, banned)


@settings(max_examples=80, deadline=None)
@given(
    n_items=st.sampled_from([30, 500, 1500]),
    factors=st.sampled_from([1, 8, 64]),
    spread=st.sampled_from([0.0, 0.3, 2.0]),
    device=st.sampled_from([None, *DEVICES]),
    tile=st.sampled_from([7, 64, 1024]),
    k=st.sampled_from([1, 6, 40]),
    seed=st.integers(0, 10_000),
)
def test_inner_products_equal_a_full_sort(n_items, factors, spread, device, tile, k, seed):
    """`spread` of the vectors' lengths, in powers of ten: the more, the sooner a user is done."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((n_items, factors)) * 10.0 ** rng.uniform(-spread, spread, (n_items, 1))
    items[rng.integers(0, n_items, n_items // 4)] = items[1]  # ties
    items[rng.integers(0, n_items, n_items // 8)] = 0
    model, users = als(items), rng.standard_normal((9, factors)).astype(np.float32)
    users[3] = 0
    histories, banned = random_histories(9, n_items, 20, seed), np.arange(n_items) % 10 == 0
    with mock.patch.object(gpu, "TILE_BYTES", 4 * 9 * tile):
        lists = top_k(model, users, Exclusions(banned, histories), k, tile, device)
    assert_best(lists, users.astype(np.float64) @ model.vectors.astype(np.float64).T, histories, banned)


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.sampled_from([0.25, 0.5, 1.0, -0.5, 1e-45])), max_size=40
    ),
    chosen=st.lists(
        st.permutations(range(1, 9)).flatmap(lambda p: st.integers(0, 8).map(lambda n: p[:n])), min_size=1, max_size=6
    ),
    banned=st.sets(st.integers(1, 8)),
    k=st.integers(1, 10),
)
def test_sparse_scores_equal_a_full_sort(cells, chosen, banned, k):
    """With ties, with weights below zero, with too few scores for a list, and with users and items without any."""
    table = np.zeros((9, 9), np.float32)
    for source, item, value in cells:
        table[source, item] = value
    model, histories = table_model(table), Histories.of(chosen)
    encoded = model.encode(histories)
    with mock.patch.object(base, "_CELLS", 18):  # two users at a time
        lists = top_k(model, encoded, Exclusions(np.isin(np.arange(9), list(banned)), histories), k, 64)
    assert_best(lists, encoded.toarray() @ table, histories, np.isin(np.arange(9), list(banned)))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(0, 12), k=st.integers(1, 9), levels=st.sampled_from([2, 1000]))
def test_ranked_candidates_equal_a_full_sort(seed, width, k, levels):
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(20)[:width] for _ in range(5)]).astype(np.int32)
    scores = (rng.integers(0, levels, items.shape) - levels // 2).astype(np.float32)
    scores[rng.random(items.shape) < 0.2] = -np.inf
    top_items, top_scores = rank_candidates(items, scores, k)
    for row in range(5):
        pairs = [(-s, i) for i, s in zip(items[row].tolist(), scores[row].tolist()) if i and s > -np.inf]
        best = [(i, -s) for s, i in sorted(pairs)][:k]
        assert list(zip(top_items[row].tolist(), top_scores[row].tolist())) == best + [(0, -np.inf)] * (k - len(best))


def test_lists_do_not_depend_on_the_batch():
    model, histories, banned = FakeModel(60, 1), random_histories(20, 60, 30, 1), np.zeros(60, bool)
    whole = top_k(model, model.encode(histories), Exclusions(banned, histories), 10, 16)
    for size in (1, 7):
        parts = [top_k(model, model.encode(h), Exclusions(banned, h), 10, 16) for h in histories.batches(size)]
        for part, one in zip(zip(*parts), whole):
            np.testing.assert_array_equal(np.concatenate(part), one)


def test_memory_does_not_grow_with_a_batch_of_items(tmp_path):
    def peak(n_items: int) -> int:
        """Bytes that a batch of 60 users takes beside the saved model, whose order by length is there already."""
        rng = np.random.default_rng(5)
        histories, users = random_histories(60, n_items, 50, 5), rng.standard_normal((60, 4), np.float32)
        base.save(tmp_path / "als", als(rng.standard_normal((n_items, 4), np.float32)))
        model = base.load(tmp_path / "als", {"als": AlsModel})
        exclusions = Exclusions(np.zeros(n_items, bool), histories)
        _ = model.by_length
        tracemalloc.start()
        try:
            top_k(model, users, exclusions, 10, 1024)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100_000)  # loads the compiled loops
    assert peak(800_000) < peak(100_000) + 64_000


def test_a_user_whose_list_cannot_change_is_not_scored_again():
    """Users 10 to 19 read the first number alone, which is largest in the longest vectors."""
    rng = np.random.default_rng(6)
    items = rng.standard_normal((5000, 8)) / np.arange(1, 5001)[:, None]
    items[:, 0] = 0.1 * rng.random(5000) / np.arange(1, 5001)
    users = rng.standard_normal((20, 8)).astype(np.float32)
    users[10:] = [1, 0, 0, 0, 0, 0, 0, 0]
    histories = Histories.of([[]] * 20)
    with mock.patch.object(TopK, "offer", autospec=True, side_effect=TopK.offer) as offer:
        top_k(als(items), users, Exclusions(np.zeros(5000, bool), histories), 5, 64)
    assert len(offer.call_args_list[0].args[2]) == 20
    assert len(offer.call_args_list) < 20, "no user needs the shortest vectors"


def test_the_encoded_users_are_not_changed():
    model, histories = FakeModel(12, 2), Histories.of([[1, 2], [3]])
    encoded = model.encode(histories)
    encoded.flags.writeable = False
    top_k(model, encoded, Exclusions(np.zeros(12, bool), histories), 3, 100)


def test_a_nan_of_a_dense_model_is_an_error():
    model, histories = FakeModel(5, 0), Histories.of([[1]])
    encoded = model.encode(histories)
    encoded[0, 3] = np.nan
    with pytest.raises(ContractViolation, match=r"'als' gives NaN scores to 1 of 5"):
        top_k(model, encoded, Exclusions(np.zeros(5, bool), histories), 2, 8)


@pytest.mark.parametrize("device", [None, *DEVICES])
def test_a_nan_of_an_item_vector_is_an_error(device):
    items = np.ones((70, 4))
    items[65, 2] = np.nan
    exclusions = Exclusions(np.zeros(70, bool), Histories.of([[1], [65], [65, 66]]))
    with pytest.raises(ContractViolation, match="'als' gives NaN scores to"):
        top_k(als(items), np.ones((3, 4), np.float32), exclusions, 3, 64, device)


def test_a_nan_of_a_table_is_an_error_for_the_users_who_have_the_item():
    table = np.ones((19, 19))
    table[3, 4] = np.nan
    model = table_model(table)
    for history, is_fault in ([3], True), ([5], False):
        histories = Histories.of([history])
        exclusions = Exclusions(np.zeros(19, bool), histories)
        if is_fault:
            with pytest.raises(ContractViolation, match="NaN scores to 1 "):
                top_k(model, model.encode(histories), exclusions, 3, 64)
        else:
            assert np.isfinite(top_k(model, model.encode(histories), exclusions, 3, 64)[1]).all()


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_a_processor_does_not_import_torch():
    code = "import sys; import recsys_spark.topk; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
