"""Item rows: content averaged over what an item has, a bias, and unit vectors where they are scored."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recsys_spark.networks.item_tower import NEIGHBOURS_WEIGH, ItemTower, feature_matrix

# items 2 and 4 have content: features 0, 2 and feature 1
FEATURES = feature_matrix(5, np.array([2, 4]), np.array([0, 2, 3]), np.array([0, 2, 1]))


def make_tower(sparse=False, weighed=False):
    torch.manual_seed(0)
    tower = ItemTower(n_items=5, n_features=3, dimension=4, sparse=sparse, weighed=weighed)
    tower.set_features(torch.from_numpy(FEATURES))
    with torch.no_grad():
        tower.content.weight[1:].normal_()
    return tower


def test_feature_matrix_is_padded_with_no_feature():
    assert FEATURES.tolist() == [[0, 0], [0, 0], [1, 3], [0, 0], [2, 0]]


def test_vectors_are_id_plus_mean_content():
    tower = make_tower()
    content = tower.content.weight[1:]
    means = [0, 0, (content[0] + content[2]) / 2, 0, content[1]]
    expected = torch.stack([tower.ids.weight[i, :4] + means[i] for i in range(5)])
    torch.testing.assert_close(tower.as_read(tower()), expected)
    vectors, biases = tower.as_scored(tower())
    torch.testing.assert_close(vectors, F.normalize(expected, dim=-1))
    torch.testing.assert_close(biases, tower.ids.weight[:, 4])
    assert torch.equal(tower.as_one(tower()), torch.cat([vectors, biases[:, None]], dim=1))


def test_content_learns_alike_from_all_items_and_from_those_that_are_asked_for():
    towers, ask = (make_tower(), make_tower()), torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    for tower, items in zip(towers, (None, torch.arange(5))):
        (tower.as_read(tower(items)) * ask).sum().backward()
    given = [tower.content.weight.grad for tower in towers]
    assert given[0].abs().sum() > 0
    torch.testing.assert_close(*given)


def test_a_feature_beyond_the_network_s_is_refused():
    tower = make_tower()
    with pytest.raises(ValueError, match="feature 3 .* 3"):
        tower.set_features(torch.tensor([[0], [4]]))


def test_biases_start_at_the_items_shares():
    tower, counts = make_tower(), torch.tensor([0, 3, 0, 7, 1])
    tower.set_popularity(counts, temperature=0.5)
    found = (tower.as_scored(tower())[1] / 0.5).softmax(0)
    torch.testing.assert_close(found, (counts + 1.0) / 16)


def test_a_weighed_item_has_its_weight_between_vector_and_bias():
    tower, counts = make_tower(weighed=True), torch.tensor([0, 4, 1, 9, 0])
    tower.set_popularity(counts, temperature=0.5)
    rows = tower()
    torch.testing.assert_close(tower.as_read(rows)[:, 4].exp(), torch.tensor([1, 1 / 2, 1, 1 / 3, 1]))
    vectors, biases = tower.as_scored(rows)
    torch.testing.assert_close(biases, rows[:, 5])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    content = tower.content.weight[2] + tower.ids.weight[4, :4]
    torch.testing.assert_close(tower.as_read(rows)[4, :4], content)


def test_items_start_at_given_vectors_and_what_these_add_to_a_history():
    tower = make_tower(weighed=True)
    old = tower.ids.weight.detach().clone()
    vectors = torch.tensor([[0, 0], [3, 4], [0, 0], [0, 0.5], [1, 0]]).float() @ torch.eye(2, 4)
    weights = torch.tensor([1.0, 2.0, 1.0, 4.0, 0.5])
    tower.start_at(vectors, weights)
    found, known = tower.ids.weight, [1, 3, 4]
    torch.testing.assert_close(found[known, :4], F.normalize(vectors[known], dim=1))
    added = found[known, 4].exp()[:, None] * found[known, :4]
    torch.testing.assert_close(added / added[0].norm(), (weights[:, None] * vectors)[known] / 10)
    assert torch.equal(found[[0, 2]], old[[0, 2]]) and torch.equal(found[:, 5], old[:, 5])


NEAR = torch.tensor([[0, 0], [3, 2], [4, 0], [1, 4], [0, 0]])
SHARES = torch.tensor([[0, 0], [0.75, 0.25], [1, 0], [0.5, 0.5], [0, 0]])


def test_neighbours_join_their_mean_to_a_vector_but_not_to_weight_and_bias():
    tower = make_tower(weighed=True)
    alone = tower().detach()
    tower.set_neighbours(NEAR, SHARES)
    found, own = tower(), alone[:, :4]
    mean = torch.stack([0 * own[0], 0.75 * own[3] + 0.25 * own[2], own[4], (own[1] + own[4]) / 2, 0 * own[4]])
    torch.testing.assert_close(found[:, :4], own + NEIGHBOURS_WEIGH * mean)
    assert torch.equal(found[:, 4:], alone[:, 4:])
    ids = torch.tensor([4, 2, 2, 1])
    torch.testing.assert_close(tower(ids), found[ids])
    assert "given" not in tower.state_dict()


def test_gradients_reach_neighbours_alike_from_all_items_and_from_some():
    towers = [make_tower(weighed=True) for _ in range(2)]
    out = torch.randn(5, 6)
    for tower, ids in zip(towers, (None, torch.arange(5))):
        tower.set_neighbours(NEAR, SHARES)
        (tower(ids) * out).sum().backward()
    whole, some = ([tower.ids.weight.grad, tower.content.weight.grad[1:]] for tower in towers)
    for a, b in zip(whole, some):
        torch.testing.assert_close(a, b)
    expected = out[2, :4] + NEIGHBOURS_WEIGH * 0.25 * out[1, :4]
    torch.testing.assert_close(whole[0][2, :4], expected)


def test_some_items_equal_their_rows_of_all():
    tower = make_tower()
    ids = torch.tensor([4, 2, 2, 1])
    torch.testing.assert_close(tower(ids), tower()[ids])


def test_without_content_the_id_stands_alone():
    tower = ItemTower(n_items=3, n_features=0, dimension=4, sparse=False)
    torch.testing.assert_close(tower(), tower.ids.weight)
    assert [name for name, _ in tower.named_parameters()] == ["ids.weight"]


def test_sparse_gradient_names_the_rows_it_touches():
    tower = make_tower(sparse=True)
    tower(torch.tensor([4, 2])).sum().backward()
    assert tower.ids.weight.grad.is_sparse
    assert sorted(tower.ids.weight.grad.coalesce().indices()[0].tolist()) == [2, 4]
