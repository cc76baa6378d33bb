"""From a batch of histories to ranked lists: what every Python worker of the score stage does. Numpy only.

Shapes:  B users of a batch · M models · C candidates of a user · n length of a list
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recsys_spark.columns import ALS, FUSED, PADDING_ITEM, POPULARITY
from recsys_spark.item_models.base import ItemModel
from recsys_spark.item_models.best import Hidden
from recsys_spark.item_models.histories import Histories
from recsys_spark.item_models.inner import InnerProductModel
from recsys_spark.score import fusion
from recsys_spark.score.diversity import Variety, spread_out
from recsys_spark.score.fusion import Blend
from recsys_spark.score.reasons import explain
from recsys_spark.score.topk import top_candidates


@dataclass(frozen=True)
class Search:
    """Where candidates come from: the `candidates` best of each model that are not `banned` (bool [I]), `tile` items at a time, on the
    GPU `device` (torch's name of it) if there is one."""

    banned: np.ndarray
    candidates: int
    tile: int
    device: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Which lists are made: the fused top `length`, with `reasons` if they are to be published, and with `each` the top `length` of every
    model too. `varieties`: how fused lists are spread out, by the names of these lists; empty: the blend's best, under the name of fused."""

    blend: Blend
    length: int
    each: bool = False
    reasons: bool = False
    varieties: Mapping[str, Variety] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """The union of all models' candidates, items int32 [B, C] ascending and 0-padded, and every model's scores float32 [M, B, C] of it.
    `best` maps each model to its own candidates: items int32 [B, m] and scores float32 [B, m], falling; `encoded` to its view of the users."""

    items: np.ndarray
    scores: np.ndarray
    best: dict[str, tuple[np.ndarray, np.ndarray]]
    encoded: dict[str, Any]


@dataclass(frozen=True)
class Ranked:
    """Lists of one name: users int64 [B] (rows of the batch), items int32 [B, n], scores float32 [B, n] (falling; padded with item 0),
    sources int64 [B, n] (numbers of models), reasons int32 [B, n] (history items, 0 for none; None: not asked)."""

    name: str
    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    sources: np.ndarray
    reasons: np.ndarray | None = None


def score_candidates(models: Mapping[str, ItemModel], histories: Histories, search: Search) -> Scored:
    """Candidates of users who all have a history, scored by every model."""
    encoded = {name: model.encode(histories) for name, model in models.items()}
    hidden = Hidden(search.banned, histories)
    best = {
        name: top_candidates(model, encoded[name], hidden, search.candidates, search.tile, search.device)
        for name, model in models.items()
    }
    items = fusion.union([found for found, _ in best.values()])
    scores = np.stack([model.score_items(encoded[name], items) for name, model in models.items()])
    return Scored(items, scores, best, encoded)


def rank(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, wanted: Wanted
) -> Iterator[Ranked]:
    """The wanted lists of every user of the batch. Users without history get popularity's list under every name."""
    known = np.flatnonzero(histories.lengths() > 0)
    if len(known):
        for ranked in _of_known(models, histories.take(known), search, wanted):
            yield replace(ranked, users=known[ranked.users])
    unknown = np.flatnonzero(histories.lengths() == 0)
    if len(unknown):
        for ranked in _of_unknown(models, histories.take(unknown), search, wanted):
            yield replace(ranked, users=unknown[ranked.users])


def _of_known(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, wanted: Wanted
) -> Iterator[Ranked]:
    everyone = np.arange(len(histories))
    found = score_candidates(models, histories, search)
    for number, name in enumerate(models if wanted.each else ()):
        items, scores = (array[:, : wanted.length] for array in found.best[name])
        yield Ranked(name, everyone, items, scores, np.full(items.shape, number))
    depth = found.items.shape[1] if wanted.varieties else wanted.length
    items, scores, shares = fusion.fuse(wanted.blend, found.scores, found.items, depth)
    for name, columns, values in _listed(models, items, scores, wanted):
        listed, own = _at(items, columns), np.take_along_axis(shares, np.maximum(columns, 0)[None], axis=2)
        if wanted.reasons:
            why, sources = explain(models, histories, found.encoded, listed, own)
            yield Ranked(name, everyone, listed, values, sources, why)
        else:
            yield Ranked(name, everyone, listed, values, own.argmax(axis=0))


def _of_unknown(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, wanted: Wanted
) -> Iterator[Ranked]:
    model, everyone = models[POPULARITY], np.arange(len(histories))
    hidden = Hidden(search.banned, histories)
    depth = search.candidates if wanted.varieties else wanted.length
    items, scores = top_candidates(model, model.encode(histories), hidden, depth, search.tile)
    sources = np.full((len(items), wanted.length), list(models).index(POPULARITY))
    for name in models if wanted.each else ():
        first, own = (array[:, : wanted.length] for array in (items, scores))
        yield Ranked(name, everyone, first, own, sources)
    for name, columns, values in _listed(models, items, scores, wanted):
        yield Ranked(name, everyone, _at(items, columns), values, sources)


def _listed(
    models: Mapping[str, ItemModel], items: np.ndarray, scores: np.ndarray, wanted: Wanted
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, columns int64 [B, n] of the candidates `items` [B, C], -1 for none, scores float32 [B, n]) of each fused list."""
    if not wanted.varieties:
        width = min(wanted.length, items.shape[1])
        yield FUSED, np.tile(np.arange(width), (len(items), 1)), scores[:, :width]
    als = models.get(ALS)
    vectors = als.vectors if isinstance(als, InnerProductModel) else None
    for name, variety in wanted.varieties.items():
        yield name, *spread_out(items, scores, wanted.length, variety, vectors)


def _at(items: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """int32 [B, n]: items int32 [B, C] in these columns, item 0 for column -1."""
    return np.where(
        columns >= 0, np.take_along_axis(items, np.maximum(columns, 0), axis=1), np.int32(PADDING_ITEM)
    )
