"""Item rows: the mean of the content, neighbours, a bias, and unit vectors for scoring."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recsys_spark.networks.item_tower import NEIGHBOUR_FACTOR, ItemTower, feature_matrix

# items 2 and 4 have content: features 0, 2 and feature 1
FEATURES = feature_matrix(5, np.array([2, 4]), np.array([0, 2, 3]), np.array([0, 2, 1]))


def make_tower(sparse=False, item_weights=False):
    torch.manual_seed(0)
    tower = ItemTower(n_items=5, n_features=3, dimension=4, sparse=sparse, item_weights=item_weights)
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
    torch.testing.assert_close(tower.encoder_rows(tower()), expected)
    vectors, biases = tower.scoring_parts(tower())
    torch.testing.assert_close(vectors, F.normalize(expected, dim=-1))
    torch.testing.assert_close(biases, tower.ids.weight[:, 4])
    assert torch.equal(tower.scoring_rows(tower()), torch.cat([vectors, biases[:, None]], dim=1))


def test_all_items_and_chosen_items_give_the_same_content_gradient():
    towers, out = (make_tower(), make_tower()), torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    for tower, items in zip(towers, (None, torch.arange(5))):
        (tower.encoder_rows(tower(items)) * out).sum().backward()
    gradients = [tower.content.weight.grad for tower in towers]
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_an_unknown_feature_is_an_error():
    tower = make_tower()
    with pytest.raises(ValueError, match="an item has feature 3, but the network has only 3 features"):
        tower.set_features(torch.tensor([[0], [4]]))


def test_biases_start_at_the_popularity_of_the_items():
    tower, counts = make_tower(), torch.tensor([0, 3, 0, 7, 1])
    tower.set_popularity(counts, temperature=0.5)
    found = (tower.scoring_parts(tower())[1] / 0.5).softmax(0)
    torch.testing.assert_close(found, (counts + 1.0) / 16)


def test_the_weight_is_between_vector_and_bias():
    tower, counts = make_tower(item_weights=True), torch.tensor([0, 4, 1, 9, 0])
    tower.set_popularity(counts, temperature=0.5)
    rows = tower()
    torch.testing.assert_close(tower.encoder_rows(rows)[:, 4].exp(), torch.tensor([1, 1 / 2, 1, 1 / 3, 1]))
    vectors, biases = tower.scoring_parts(rows)
    torch.testing.assert_close(biases, rows[:, 5])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    content = tower.content.weight[2] + tower.ids.weight[4, :4]
    torch.testing.assert_close(tower.encoder_rows(rows)[4, :4], content)


def test_items_start_at_given_vectors_and_weights():
    tower = make_tower(item_weights=True)
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


def test_neighbours_change_the_vector_but_not_weight_and_bias():
    tower = make_tower(item_weights=True)
    alone = tower().detach()
    tower.set_neighbours(NEAR, SHARES)
    found, own = tower(), alone[:, :4]
    mean = torch.stack([0 * own[0], 0.75 * own[3] + 0.25 * own[2], own[4], (own[1] + own[4]) / 2, 0 * own[4]])
    torch.testing.assert_close(found[:, :4], own + NEIGHBOUR_FACTOR * mean)
    assert torch.equal(found[:, 4:], alone[:, 4:])
    ids = torch.tensor([4, 2, 2, 1])
    torch.testing.assert_close(tower(ids), found[ids])
    assert "graph" not in tower.state_dict()


def test_all_items_and_chosen_items_give_the_same_neighbour_gradient():
    towers = [make_tower(item_weights=True) for _ in range(2)]
    out = torch.randn(5, 6)
    for tower, ids in zip(towers, (None, torch.arange(5))):
        tower.set_neighbours(NEAR, SHARES)
        (tower(ids) * out).sum().backward()
    of_all, of_chosen = ([tower.ids.weight.grad, tower.content.weight.grad[1:]] for tower in towers)
    for a, b in zip(of_all, of_chosen):
        torch.testing.assert_close(a, b)
    expected = out[2, :4] + NEIGHBOUR_FACTOR * 0.25 * out[1, :4]
    torch.testing.assert_close(of_all[0][2, :4], expected)


def test_chosen_items_have_the_rows_of_all_items():
    tower = make_tower()
    ids = torch.tensor([4, 2, 2, 1])
    torch.testing.assert_close(tower(ids), tower()[ids])


def test_without_content_there_is_only_the_id_embedding():
    tower = ItemTower(n_items=3, n_features=0, dimension=4, sparse=False)
    torch.testing.assert_close(tower(), tower.ids.weight)
    assert [name for name, _ in tower.named_parameters()] == ["ids.weight"]


def test_a_sparse_gradient_has_the_chosen_rows():
    tower = make_tower(sparse=True)
    tower(torch.tensor([4, 2])).sum().backward()
    assert tower.ids.weight.grad.is_sparse
    assert sorted(tower.ids.weight.grad.coalesce().indices()[0].tolist()) == [2, 4]
