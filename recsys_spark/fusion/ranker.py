"""The learned ranker: LambdaMART (Burges, MSR-TR-2010-82) by LightGBM, over what the models say of the blend's best candidates and what is known of
these and of the user.

It orders the best `SHORTLIST` times top_n of the blend anew, and nothing else: further down a held-out item is rare, and of 900 candidates a user it would
cost more than all models together. With s the sum of the trees, each tree fits

    lambda_c = sum over the user's c' of other relevance of +- |what NDCG gains where c and c' change places| / (1 + e^(s_better - s_worse)).

LightGBM is imported by who fits or asks a ranker, never on a night of the blend. One thread, a fixed
seed: the same sample gives the same trees, and a row the same score in any batch.

Shapes:  M models · B users · T candidates of all users, in one flat array · R shortlisted candidates · F features
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_spark.errors import InputUnreadable
from recsys_spark.fusion import ranker_features
from recsys_spark.fusion.blend import METHODS, RRF, Rows, listed, shares
from recsys_spark.fusion.ranker_features import Traits
from recsys_spark.jit import compiled

if TYPE_CHECKING:
    from lightgbm import Booster

log = logging.getLogger(__name__)

SHORTLIST = 3
"""The ranker sees this many times as many candidates as the list is long."""
TREES = 100
PARAMETERS = {
    "objective": "lambdarank",
    "learning_rate": 0.07,
    "num_leaves": 7,
    "min_data_in_leaf": 400,
    "lambda_l2": 1.0,
    "lambdarank_norm": False,  # a user whose list has more right in it tells more
    "num_threads": 1,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,  # without it LightGBM times both ways and takes the quicker one
    "verbosity": -1,
}

_opened: dict[str, tuple[str, Booster]] = {}


@dataclass(frozen=True)
class Told:
    """What is known of the candidates `items` int32 [T] of B users, by `rows`: the models' shares by each method (fusion.shares); the users' `traits`;
    `depth`, how many candidates each model has listed."""

    models: Sequence[str]
    rows: Rows
    items: np.ndarray
    shares: dict[str, np.ndarray]
    traits: Traits
    depth: int

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        rows: Rows,
        items: np.ndarray,
        scores: np.ndarray,
        traits: Traits,
        depth: int,
    ) -> Told:
        """From the models' scores float32 [M, T]."""
        given = {method: shares(method, scores, rows) for method in METHODS}
        return cls(models, rows, items, given, traits, depth)


def feature_names(models: Sequence[str]) -> list[str]:
    """The columns of `features`."""
    each = [f"{method}_{name}" for method in METHODS for name in models]
    return [*each, "lists", "blend", *ranker_features.NAMES]


def features(told: Told, blend: np.ndarray, at: np.ndarray, user: np.ndarray) -> np.ndarray:
    """float32 [R, F] of the candidates `at` int64 [R] of the users `user` int64 [R]; `blend` float32 [T] are the blend's scores.

    Of each model the standard score and 1 / (60 + rank) among the user's candidates; how many models list the item; the blend's score; and
    traits.NAMES. Trees only compare, so logarithms of these would change nothing.
    """
    each = [told.shares[method][:, at] for method in METHODS]
    lists = listed(each[METHODS.index(RRF)], told.depth).sum(axis=0)
    columns = [*each[0], *each[1], lists, blend[at], *told.traits(told.items[at], user)]
    return np.stack(columns, axis=1).astype(np.float32)


def shortlist(blend: np.ndarray, rows: Rows, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(at, user), each int64 [R]: the best `size` candidates of each user by (-score, item) of the blend, by user and then in that
    order, in which LightGBM takes them before it has learned anything."""
    kept = np.minimum(rows.lengths, size)
    at = np.empty(int(kept.sum()), np.int64)
    _shortlist(blend, rows.starts, rows.lengths, size, at)
    return at, np.repeat(np.arange(len(kept)), kept)


def fit(told: Told, blend: np.ndarray, relevant: np.ndarray, users: np.ndarray, *, length: int, k: int) -> str:
    """The ranker for lists of `length` as LightGBM's text, learned on the rows `users` int64 of users; `relevant` bool [T]. Aims at NDCG@k."""
    lightgbm = _lightgbm()
    at, user = shortlist(blend, told.rows.of_users(users), SHORTLIST * length)
    hits = np.bincount(user[relevant[at]], minlength=len(users))
    kept = hits[user] > 0  # where nothing is right, nothing is better
    groups = np.bincount(user[kept], minlength=len(users))
    table = lightgbm.Dataset(
        features(told, blend, at[kept], users[user[kept]]),
        relevant[at[kept]].astype(np.int8),
        group=groups[groups > 0],
        feature_name=feature_names(told.models),
        params={"verbosity": -1},
    )
    # LightGBM's own advice: look a little further down than k
    booster = lightgbm.train({**PARAMETERS, "lambdarank_truncation_level": k + 5}, table, TREES)
    log.info("fusion: a ranker learned on %d rows of %d users", int(kept.sum()), int((groups > 0).sum()))
    return str(booster.model_to_string())


def rerank(booster: Booster, told: Told, blend: np.ndarray, length: int, users: np.ndarray | None = None) -> np.ndarray:
    """float32 [T]: the ranker's scores of what may stand in a list of `length`, and -inf for all other candidates. Those of `users` int64 (rows of
    users; None: everybody) are asked."""
    asked = np.arange(len(told.rows.lengths)) if users is None else users
    at, user = shortlist(blend, told.rows.of_users(asked), SHORTLIST * length)
    found = np.full(blend.shape, -np.inf, np.float32)
    if len(at):
        found[at] = booster.predict(features(told, blend, at, asked[user]), raw_score=True, num_threads=1)
    return found


def of_text(text: str) -> Booster:
    """The ranker that `fit` gave."""
    booster: Booster = _lightgbm().Booster(model_str=text)
    return booster


def load(path: str, models: Sequence[str]) -> Booster:
    """The ranker in the file `path`, read once in this process; `InputUnreadable` where it is none, or one of other models."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        version = hashlib.sha256(text.encode()).hexdigest()
        if _opened.get(path, ("",))[0] != version:
            _opened[path] = version, of_text(text)
        booster = _opened[path][1]
        if booster.feature_name() != feature_names(models):
            raise ValueError(f"it knows {', '.join(booster.feature_name())}")
        return booster
    except _unreadable() as error:
        raise InputUnreadable(
            f"{path} is not a ranker of {', '.join(models)}: {error}; run jobs/score.py --pass backtest again with --force"
        ) from error


def _lightgbm() -> Any:
    """LightGBM without its face for scikit-learn, whose import would take a second of whoever ranks; where there is no such package, it does without."""
    unasked = "sklearn" not in sys.modules
    if unasked:
        sys.modules["sklearn"] = None  # type: ignore[assignment]  # what cannot be imported
    try:
        return importlib.import_module("lightgbm")
    finally:
        if unasked:
            sys.modules.pop("sklearn", None)


def _unreadable() -> tuple[Any, ...]:
    from lightgbm.basic import LightGBMError

    return OSError, ValueError, LightGBMError


@compiled
def _shortlist(blend, starts, lengths, size, at):  # type: ignore[no-untyped-def]
    filled = 0
    for user in range(len(starts)):
        first, last = starts[user], starts[user] + lengths[user]
        order = np.argsort(-blend[first:last], kind="mergesort")[:size]
        for place in order:
            at[filled] = first + place
            filled += 1
