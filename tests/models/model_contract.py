"""The laws that every item model keeps. A test of a model subclasses `ItemModelContract` and gives the fixture `model`.

    class TestAlsModel(ItemModelContract):
        @pytest.fixture
        def model(self):
            return AlsModel(...)

Scores are compared as floats: a product may be summed in another order for another batch.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from recsys_spark.errors import InputUnreadable
from recsys_spark.models import base
from recsys_spark.models.histories import Histories

USERS = 23


def make_histories(n_items: int, seed: int = 0) -> Histories:
    """Return histories of `USERS` users with none, one, all and random numbers of items."""
    rng = np.random.default_rng(seed)
    lengths = [0, 1, n_items - 1, 0, *rng.integers(1, min(n_items, 12), USERS - 4)]
    items = [rng.permutation(np.arange(1, n_items))[:n].tolist() for n in lengths]
    times = [np.sort(rng.integers(0, 10**6, n)).tolist() for n in lengths]
    weights = [rng.uniform(0.5, 3, n).tolist() for n in lengths]
    plain = Histories.of(items, times, weights)
    segments = [None if user % 4 == 0 else f"s{user % 4}" for user in range(USERS)]
    return Histories(plain.indptr, plain.items, plain.times, plain.weights, segments)


def all_scores(model: base.ItemModel, histories: Histories) -> np.ndarray:
    return np.array(model.score_tile(model.encode(histories), 0, model.n_items))


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-6)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * scale)


def _unseen(model: base.ItemModel, histories: Histories, rng: np.random.Generator) -> np.ndarray:
    """Return int32 [B, 6], distinct items that are not in the user's history. Some places have the padding item 0."""
    items = np.zeros((len(histories), 6), np.int32)
    for user, own in enumerate(np.split(histories.items, histories.indptr[1:-1])):
        others = rng.permutation(np.setdiff1d(np.arange(1, model.n_items), own))[:5]
        items[user, : len(others)] = others
    return np.ascontiguousarray(items[:, rng.permutation(6)])


class ItemModelContract:
    @pytest.fixture
    def model(self) -> base.ItemModel:
        raise NotImplementedError

    @pytest.fixture
    def histories(self, model) -> Histories:
        return make_histories(model.n_items)

    @pytest.fixture
    def saved(self, model, tmp_path):
        base.save(tmp_path / "model", model)
        return tmp_path / "model"

    def test_scores_are_float32_of_every_user_and_item(self, model, histories):
        scores = all_scores(model, histories)
        assert scores.shape == (USERS, model.n_items)
        assert scores.dtype == np.float32
        assert np.isfinite(scores[:, 1:]).all()

    def test_scores_tell_items_apart(self, model, histories):
        assert np.ptp(all_scores(model, histories)[2, 1:]) > 0

    @pytest.mark.parametrize("width", [1, 3, 7])
    def test_tiles_join_to_the_whole(self, model, histories, width):
        encoded = model.encode(histories)
        tiles = [model.score_tile(encoded, lo, min(lo + width, model.n_items)) for lo in range(0, model.n_items, width)]
        assert all(tile.dtype == np.float32 for tile in tiles)
        close(np.concatenate(tiles, axis=1)[:, 1:], all_scores(model, histories)[:, 1:])

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_any_batching_gives_the_same_scores(self, model, histories, size):
        parts = [all_scores(model, batch) for batch in histories.batches(size)]
        close(np.concatenate(parts)[:, 1:], all_scores(model, histories)[:, 1:])

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_any_batching_gives_the_same_scores_of_pairs(self, model, histories, size):
        items = np.random.default_rng(4).integers(1, model.n_items, (USERS, 6)).astype(np.int32)
        parts = [
            model.score_items(model.encode(histories.rows(lo, lo + size)), items[lo : lo + size])
            for lo in range(0, USERS, size)
        ]
        close(np.concatenate(parts), model.score_items(model.encode(histories), items))

    def test_the_order_of_users_does_not_matter(self, model, histories):
        order = np.random.default_rng(5).permutation(USERS)
        close(all_scores(model, histories.take(order))[:, 1:], all_scores(model, histories)[order][:, 1:])

    def test_score_items_equals_score_tile(self, model, histories):
        items = np.random.default_rng(3).integers(1, model.n_items, (USERS, 9)).astype(np.int32)
        found = model.score_items(model.encode(histories), items)
        assert found.shape == items.shape
        assert found.dtype == np.float32
        close(found, np.take_along_axis(all_scores(model, histories), items, axis=1))

    def test_reasons_are_items_of_the_history(self, model, histories):
        items = _unseen(model, histories, np.random.default_rng(6))
        found = model.explain(histories, model.encode(histories), items)
        assert found.shape == items.shape and found.dtype == np.int32
        for user, own in enumerate(np.split(histories.items, histories.indptr[1:-1])):
            assert np.isin(found[user], [0, *own]).all()
        assert not found[items == 0].any()

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_any_batching_gives_the_same_reasons(self, model, histories, size):
        items = _unseen(model, histories, np.random.default_rng(7))
        parts = [
            model.explain(batch, model.encode(batch), items[lo : lo + size])
            for lo, batch in zip(range(0, USERS, size), histories.batches(size))
        ]
        whole = model.explain(histories, model.encode(histories), items)
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        half = np.where(np.arange(items.shape[1]) % 2, items, 0)  # nor does what else is asked
        np.testing.assert_array_equal(model.explain(histories, model.encode(histories), half), np.where(half, whole, 0))

    def test_no_user_and_no_candidate_are_fine(self, model, histories):
        nobody = model.encode(histories.rows(0, 0))
        assert model.score_tile(nobody, 0, model.n_items).shape == (0, model.n_items)
        nothing = np.empty((USERS, 0), np.int32)
        assert model.score_items(model.encode(histories), nothing).shape == (USERS, 0)
        assert model.explain(histories, model.encode(histories), nothing).shape == (USERS, 0)
        assert model.explain(histories.rows(0, 0), nobody, nothing[:0]).shape == (0, 0)

    def test_only_users_without_history_are_fine(self, model):
        assert np.isfinite(all_scores(model, Histories.of([[], [], []]))[:, 1:]).all()

    def test_the_same_again(self, model, histories):
        np.testing.assert_array_equal(all_scores(model, histories), all_scores(model, histories))

    def test_save_and_load(self, model, histories, saved):
        loaded = base.load(saved, {model.kind: type(model)})
        assert type(loaded) is type(model)
        assert (loaded.n_items, loaded.parameters) == (
            model.n_items,
            json.loads(json.dumps(model.parameters)),
        )
        assert loaded.needs_history == model.needs_history
        close(all_scores(loaded, histories), all_scores(model, histories))

    def test_loaded_arrays_are_memory_mapped(self, model, saved):
        loaded = base.load(saved, {model.kind: type(model)})
        assert sorted(loaded.arrays) == sorted(model.arrays)
        assert all(isinstance(array, np.memmap) for array in loaded.arrays.values() if array.size)

    def test_saving_twice_gives_the_same_header(self, model, saved, tmp_path):
        base.save(tmp_path / "again", model)
        assert (tmp_path / "again" / base.HEADER).read_bytes() == (saved / base.HEADER).read_bytes()

    def test_nothing_is_pickled(self, model, saved):
        for name in model.arrays:
            assert np.load(saved / f"{name}.npy", allow_pickle=False).dtype.kind in "fiu"

    @pytest.mark.parametrize("harm", ["missing", "empty", "cut", "garbage"])
    def test_a_harmed_array_names_the_folder(self, model, saved, harm):
        path = saved / f"{max(model.arrays)}.npy"
        content = path.read_bytes()
        path.unlink()
        if harm != "missing":
            path.write_bytes({"empty": b"", "cut": content[:-3], "garbage": b"not an array" * 20}[harm])
        with pytest.raises(InputUnreadable, match="run the stage that writes it again with --force") as caught:
            base.load(saved, {model.kind: type(model)})
        assert str(saved) in str(caught.value)
