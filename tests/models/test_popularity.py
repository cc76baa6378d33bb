import numpy as np
import pytest

from models.model_contract import ItemModelContract
from recsys_spark.models.histories import Histories
from recsys_spark.models.popularity import PopularityModel, smooth_shares


class TestPopularityModel(ItemModelContract):
    @pytest.fixture
    def model(self):
        scores = np.random.default_rng(1).random((3, 17), np.float32)
        return PopularityModel(17, {"segments": ["s1", "s3"]}, {"scores": scores})

    def test_users_get_their_segments_row_and_strangers_everybodys(self, model):
        histories = Histories(np.zeros(5, np.int64), *[np.empty(0)] * 3, segments=["s3", None, "s1", "new"])
        assert model.encode(histories).tolist() == [2, 0, 1, 0]
        np.testing.assert_array_equal(
            model.score_tile(model.encode(histories), 4, 6), model.arrays["scores"][[2, 0, 1, 0], 4:6]
        )

    def test_serves_users_without_history(self, model):
        assert not model.needs_history


def test_shares_of_everybody_and_of_a_segment():
    counts = np.array([[0, 6, 3, 1, 0], [0, 0, 1, 1, 0]], float)
    p = np.array([0, 6 / 10, 3 / 10, 1 / 10, 0])
    m, own = 3, 2  # items that were chosen at all; choices of the segment
    expected = [p, (np.array([0, 0, 1, 1, 0]) + m * p) / (own + m)]
    np.testing.assert_allclose(smooth_shares(counts), expected, rtol=1e-6)
    np.testing.assert_allclose(smooth_shares(counts).sum(axis=1), 1, rtol=1e-6)


def test_three_users_of_a_segment_cannot_lift_a_rare_item_over_the_popular_ones():
    everybody = np.concatenate([[0], 1000 / np.arange(1, 201)])  # long-tailed, 200 items
    segment = np.zeros(201)
    segment[150] = 3
    order = np.argsort(-smooth_shares(np.array([everybody + segment, segment]))[1], kind="stable")
    assert order[:5].tolist() == [1, 2, 3, 4, 5]


def test_a_large_segment_has_its_own_mind():
    everybody = np.array([0, 900.0, 100.0])
    segment = np.array([0, 10.0, 90.0])
    assert np.argmax(smooth_shares(np.array([everybody, segment]))[1]) == 2


def test_no_choices_at_all_are_all_zero():
    assert not smooth_shares(np.zeros((2, 4))).any()
