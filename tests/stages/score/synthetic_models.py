"""A small night that is finished up to features, with a real item model of each kind except the network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from factories import finish_stage, make_context
from recsys_spark.columns import BACKTEST, RELEASE, TEST, VALID
from recsys_spark.models import base
from recsys_spark.models.als import AlsModel, Objective
from recsys_spark.models.item_knn import ContentModel, ItemKnnModel, ItemRidgeModel
from recsys_spark.models.popularity import PopularityModel
from recsys_spark.stages.baselines import svd, user_knn
from stages.baselines.local import Tasks, put_pairs, random_matrix

N_USERS, N_ITEMS = 40, 31
WITHDRAWN, UNLISTED = 5, 30
OBJECTIVE = Objective(confidence=1.0, unobserved_weight=0.1, regularization=0.05, regularization_exponent=1.0)
MODELS = ("popularity", "als", "item_knn", "item_ridge", "user_knn", "svd", "content")


def put_models(folder: Path, seed: int = 0) -> dict[str, Path]:
    """Write one model of each kind over N_ITEMS items, popularity with one segment; returns their folders."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((N_ITEMS, 6)).astype(np.float32)
    near = sp.random(N_ITEMS, N_ITEMS, 0.4, "csr", np.float32, rng)
    near.sort_indices()
    arrays = {
        "indptr": near.indptr.astype(np.int64),
        "neighbours": near.indices.astype(np.int32),
        "similarities": near.data,
    }
    made = {
        "popularity": PopularityModel(
            N_ITEMS, {"segments": ["a"]}, {"scores": rng.integers(0, 5, (2, N_ITEMS)).astype(np.float32)}
        ),
        "als": AlsModel.of(OBJECTIVE, items),
        "item_knn": ItemKnnModel(N_ITEMS, {}, arrays),
        "item_ridge": ItemRidgeModel(N_ITEMS, {}, {**arrays, "similarities": near.data - np.float32(0.4)}),
        "content": ContentModel(N_ITEMS, {}, {**arrays, "similarities": near.data[::-1].copy()}),
    }
    scratch = folder / ".scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    pairs = put_pairs(scratch / "pairs", random_matrix(n_items=N_ITEMS, seed=seed), 2)
    powers = dict.fromkeys(("user_power", "item_power", "singular_power", "target_power"), 0.5)
    made["svd"] = svd.fit_pairs(Tasks(), pairs, scratch / "svd", factors=6, **powers)
    similarity = user_knn.UserSimilarity("cosine", 0.5, 0.5, 1.0, 0.3)
    made["user_knn"] = user_knn.fit_pairs(pairs, scratch / "users", neighbours=9, max_users=None, similarity=similarity)
    for name, model in made.items():
        base.save(folder / name, model)
    shutil.rmtree(scratch)
    return {name: folder / name for name in MODELS}


def category_of(item: int) -> str:
    return f"c{item % 5}"


def histories(moments: tuple[str, ...], seed: int = 0) -> list[dict]:
    """Every fifth user has no history. Odd users have segment a. The unlisted item is in no history."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(N_USERS):
        items = [] if user % 5 == 0 else (1 + rng.permutation(UNLISTED - 1)[: 3 + user % 7]).tolist()
        segment = "a" if user % 2 else None
        for as_of in moments:
            history = {"item_idx": items, "event_ts": list(range(len(items))), "weight": [1.0] * len(items)}
            rows.append({"user_idx": user, "segment": segment, "as_of": as_of, **history})
    return rows


def finish_features(root: Path, spark=None, *, seed: int = 0, **sections):
    """A context whose clean, baselines and features stages are finished. Even users have a positive."""
    config = {"train": {"enabled": False}, "evaluate": {"cutoffs": [5], "gate_k": 5}}
    config |= {"baselines": {"models": list(MODELS)}, "paths": {"items": "items.csv"}}
    context = make_context(root, spark, **{**config, **sections})
    users = [
        {"user_idx": u, "user_id": f"u{u}", "segment": "a" if u % 2 else None, "attributes": {}} for u in range(N_USERS)
    ]
    items = [
        {"item_idx": i, "item_id": f"i{i}", "categories": [category_of(i)], "withdrawn": i == WITHDRAWN}
        for i in range(1, N_ITEMS) if i != UNLISTED
    ]  # fmt: skip
    finish_stage(context, "clean", None, {"users": ("users", users), "items": ("items", items)}, users=N_USERS)
    positives = [
        {"user_idx": u, "item_idx": [1 + u % 9], "as_of": as_of}
        for u in range(0, N_USERS, 2)
        for as_of in (VALID, TEST)
    ]
    backtest = {
        "histories": ("histories", histories((VALID, TEST), seed)),
        "positives": ("positives", positives),
    }
    finish_stage(context, "features", BACKTEST, backtest)
    finish_stage(context, "features", RELEASE, {"histories": ("histories", histories((RELEASE,), seed))})
    for pass_name in (BACKTEST, RELEASE):
        finish_stage(context, "baselines", pass_name, {})
        put_models(context.layout.stage("baselines", pass_name), seed)
    return context
