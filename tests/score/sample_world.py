"""Samples with a planted answer: who is right about the held-out item is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recsys_spark.score.sample import SCHEMA, Sample

NAMES = ("popularity", "als", "item_cosine", "network")


def noise(n_users=400, width=40, n_models=4, seed=0):
    """Scores float32 [M, U, C] of pure noise, of candidates 1, 2, … C for everybody, and one held-out item of each user, int64 [U]."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n_models, n_users, width)).astype(np.float32)
    return scores, rng.integers(1, width + 1, n_users)


def make_sample(scores, held_out, models=NAMES, *, items=None, history=None, depth=1000):
    """A Sample of scores [M, U, C] of items [U, C], 0-padded; `held_out` has the item or the items of each user; users are 0, 1, …"""
    n_users, width = scores.shape[1:]
    items = np.broadcast_to(np.arange(1, width + 1), (n_users, width)) if items is None else items
    real = items > 0
    columns = {
        "user_idx": np.arange(n_users),
        "history": np.full(n_users, 5) if history is None else history,
        "item_idx": [row[own].tolist() for row, own in zip(items, real)],
        "scores": [scores[:, u, real[u]].ravel().tolist() for u in range(n_users)],
        "held_out": [np.atleast_1d(own).tolist() for own in held_out],
    }
    return Sample.of(pa.table(columns, SCHEMA), models, depth)


def plant(scores, model, held_out, lift):
    """`model` (a number) sees the held-out items of noise() this much higher, in place."""
    scores[model, np.arange(scores.shape[1]), held_out - 1] += lift
