"""The learned ranker: LambdaMART (Burges, MSR-TR-2010-82) by LightGBM, which orders the best candidates of the blend.

Only the `SHORTLIST` times top_n best of the blend are ranked: held-out items are rare further down, and ranking all
candidates would cost more than all models together. Each tree fits

    lambda_c = sum over the user's candidates c' of other relevance of
               +- |change of NDCG when c and c' swap places| / (1 + e^(s_better - s_worse)),

where s is the sum of the trees so far. Training uses one thread and a fixed seed, so it is reproducible.

LightGBM takes a second to import. It is imported only where a ranker is fitted or used.

Shapes:  M models · B users · C candidates of a user, where item 0 is padding · R shortlisted candidates · F features
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_spark.errors import InputUnreadable
from recsys_spark.fusion import ranker_features
from recsys_spark.fusion.blend import METHODS, RRF, among_best
from recsys_spark.fusion.ranker_features import UserItemFeatures

if TYPE_CHECKING:
    from lightgbm import Booster

log = logging.getLogger(__name__)

SHORTLIST = 3
"""Candidates that are ranked for each place of the list."""
TREES = 100
PARAMETERS = {
    "objective": "lambdarank",
    "learning_rate": 0.07,
    "num_leaves": 7,
    "min_data_in_leaf": 400,
    "lambda_l2": 1.0,
    "lambdarank_norm": False,  # users with more relevant candidates weigh more
    "num_threads": 1,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,  # otherwise LightGBM times two layouts and keeps the faster one
    "verbosity": -1,
}

_loaded: dict[str, tuple[str, Booster]] = {}


@dataclass(frozen=True)
class RankerInputs:
    """The candidates `items` int32 [B, C] of B users, with all that the ranker's features are computed from."""

    models: Sequence[str]
    items: np.ndarray
    normalised: Mapping[str, np.ndarray]
    """Scores normalised by each of METHODS, float32 [M, B, C]."""
    user_item: UserItemFeatures
    depth: int
    """Number of candidates that each model lists."""


def feature_names(models: Sequence[str]) -> list[str]:
    """Return the names of the columns of `features`."""
    of_models = [f"{method}_{name}" for method in METHODS for name in models]
    return [*of_models, "lists", "blend", *ranker_features.NAMES]


def features(inputs: RankerInputs, blend: np.ndarray, user: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return float32 [R, F] for the candidates items[user, column]. `blend` float32 [B, C] holds the blended scores.

    The features are each model's normalised scores, the number of models that list the item, the blended score, and
    `ranker_features.NAMES`.
    """
    of_models = {method: scores[:, user, column] for method, scores in inputs.normalised.items()}
    lists = among_best(of_models[RRF], inputs.depth).sum(axis=0)
    columns = [row for method in METHODS for row in of_models[method]]
    columns += [lists, blend[user, column], *inputs.user_item(inputs.items[user, column], user)]
    return np.stack(columns, axis=1).astype(np.float32)


def shortlist(blend: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (user, column), each int64 [R]: the `size` best candidates of each user by (-score, item).

    `blend` float32 [B, C] is -inf for padding. LightGBM's initial order is the order of these rows.
    """
    order = np.argsort(-blend, axis=1, kind="stable")[:, :size]
    user, place = np.nonzero(np.isfinite(np.take_along_axis(blend, order, axis=1)))
    return user, order[user, place]


def fit(
    inputs: RankerInputs, blend: np.ndarray, relevant: np.ndarray, users: np.ndarray, *, length: int, k: int
) -> str:
    """Return a ranker for lists of `length`, fitted for NDCG@k on the rows `users` of `inputs`, as LightGBM's text.

    `blend` float32 and `relevant` bool are [B, C].
    """
    import lightgbm

    row, column = shortlist(blend[users], SHORTLIST * length)
    hits = np.bincount(row[relevant[users[row], column]], minlength=len(users))
    kept = hits[row] > 0  # without a relevant candidate there is nothing to order
    row, column = row[kept], column[kept]
    groups = np.bincount(row, minlength=len(users))
    data = lightgbm.Dataset(
        features(inputs, blend, users[row], column),
        relevant[users[row], column].astype(np.int8),
        group=groups[groups > 0],
        feature_name=feature_names(inputs.models),
        params={"verbosity": -1},
    )
    # LightGBM's documentation advises a truncation level slightly above k
    booster = lightgbm.train({**PARAMETERS, "lambdarank_truncation_level": k + 5}, data, TREES)
    log.info("fusion: a ranker was fitted on %d candidates of %d users", len(row), int((groups > 0).sum()))
    return str(booster.model_to_string())


def rerank(
    booster: Booster, inputs: RankerInputs, blend: np.ndarray, length: int, users: np.ndarray | None = None
) -> np.ndarray:
    """Return float32 [B, C]: the ranker's scores of the candidates on the shortlist of `blend`, -inf for all others.

    With `users` (int64 rows of `inputs`), only those users are ranked.
    """
    users = np.arange(len(blend)) if users is None else users
    row, column = shortlist(blend[users], SHORTLIST * length)
    scores = np.full(blend.shape, -np.inf, np.float32)
    if len(row):
        rows = features(inputs, blend, users[row], column)
        scores[users[row], column] = booster.predict(rows, raw_score=True, num_threads=1)
    return scores


def from_text(text: str) -> Booster:
    """Return the ranker that `fit` wrote as `text`."""
    from lightgbm import Booster

    return Booster(model_str=text)


def load(path: str, models: Sequence[str]) -> Booster:
    """Return the ranker of `models` in the file `path`, parsed once in this process.

    Raises `InputUnreadable` when the file holds no ranker, or a ranker of other models.
    """
    from lightgbm.basic import LightGBMError

    try:
        text = Path(path).read_text(encoding="utf-8")
        version = hashlib.sha256(text.encode()).hexdigest()
        if path not in _loaded or _loaded[path][0] != version:
            _loaded[path] = version, from_text(text)
        booster = _loaded[path][1]
        if booster.feature_name() != feature_names(models):
            raise ValueError(f"its features are {', '.join(booster.feature_name())}")
        return booster
    except (OSError, ValueError, LightGBMError) as error:
        raise InputUnreadable(
            f"{path} is not a ranker of {', '.join(models)}: {error}. "
            "Run jobs/score.py --pass backtest again with --force"
        ) from error
