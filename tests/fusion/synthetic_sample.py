"""Samples with a planted answer: it is known which model ranks the held-out item high."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from recsys_spark.fusion.sample import SCHEMA, Sample
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.popularity import PopularityModel

NAMES = ("popularity", "als", "item_knn", "network")


def noise(n_users=400, width=40, n_models=4, seed=0):
    """Scores float32 [M, U, C] of noise for the candidates 1 … C, and one held-out item of each user, int64 [U]."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n_models, n_users, width)).astype(np.float32)
    return scores, rng.integers(1, width + 1, n_users)


def categories_of(categories):
    """`categories` has a list of numbers for each item from 0 on."""
    column = pa.array([[f"c{code}" for code in codes] for codes in categories], pa.list_(pa.string()))
    items = pa.table({"item_idx": pa.array(range(len(categories)), pa.int32()), "categories": column})
    return Categories.of(items, len(categories))


def popularity_of(n_items):
    """A model in which later items are more popular, and in segment a earlier items."""
    shares = np.stack([np.arange(n_items), np.arange(n_items)[::-1]]).astype(np.float32)
    return PopularityModel(n_items, {"segments": ["a"]}, {"scores": shares})


def make_sample(scores, held_out, models=NAMES, *, items=None, categories=None, depth=1000):
    """A Sample of scores [M, U, C] of `items` [U, C], 0-padded.

    `held_out` has the item or the items of each user. Users are 0, 1, …, with a history of one item.
    """
    n_users, width = scores.shape[1:]
    items = np.broadcast_to(np.arange(1, width + 1), (n_users, width)) if items is None else items
    real = items > 0
    columns = {
        "user_idx": np.arange(n_users),
        "history": [[1 + user % width] for user in range(n_users)],
        "segment": ["a" if user % 3 else None for user in range(n_users)],
        "item_idx": [row[mask].tolist() for row, mask in zip(items, real)],
        "scores": [scores[:, u, real[u]].ravel().tolist() for u in range(n_users)],
        "held_out": [np.atleast_1d(row).tolist() for row in held_out],
    }
    table, n_items = pa.table(columns, SCHEMA), 1 + width
    categories = categories or Categories.none(n_items)
    return Sample.of(table, models, popularity_of(n_items), categories, depth)


def plant(scores, model, held_out, lift):
    """Raise the held-out items of noise() in the scores of `model` (a number) by `lift`, in place."""
    scores[model, np.arange(scores.shape[1]), held_out - 1] += lift


def category_sample(n_users, width, n_models=2, n_categories=12):
    """Models of pure noise, and held-out items with the category of the user's one history item.

    `category` int [1 + width] has the category of each item.
    """
    rng = np.random.default_rng(3)
    scores, _ = noise(n_users, width=width, n_models=n_models)
    category = np.concatenate([[-1], rng.permutation(width) % n_categories])
    same_category = [np.flatnonzero(category == category[1 + user % width]) for user in range(n_users)]
    return SimpleNamespace(
        scores=scores,
        category=category,
        categories=categories_of([[], *([code] for code in category[1:])]),
        held_out=np.array([rng.choice(items) for items in same_category]),
    )
