"""From a batch of histories to ranked lists: what every Python worker of the score stage does. Numpy only.

Shapes:  B users of a batch · M models · C candidates of a user · n length of a list
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recsys_spark.columns import ALS, FUSED, PADDING_ITEM, POPULARITY
from recsys_spark.fusion import blend, ranker
from recsys_spark.fusion.blend import Fusion, Rows
from recsys_spark.fusion.ranker_features import Traits
from recsys_spark.metrics.categories import Categories
from recsys_spark.models.base import ItemModel
from recsys_spark.models.heap import Hidden
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.rules.diversity import Variety, spread_out
from recsys_spark.stages.score.explanations import explain
from recsys_spark.topk.search import top_candidates


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
    model too, whether it is fused or not. `varieties`: one diversified fused list for each; empty: one plain fused list."""

    fusion: Fusion
    length: int
    each: bool = False
    reasons: bool = False
    varieties: Sequence[Variety] = ()


@dataclass(frozen=True)
class Watch:
    """Seconds of work, by model, and by FUSED for what comes after all models."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        clock = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - clock


@dataclass(frozen=True)
class Scored:
    """The union of the fused models' candidates, items int32 [B, C] ascending and 0-padded, and their scores float32 [M, B, C] of it.
    `best` maps every model to its own candidates: items int32 [B, m] and scores float32 [B, m], falling; `encoded` to its view of the users."""

    items: np.ndarray
    scores: np.ndarray
    best: dict[str, tuple[np.ndarray, np.ndarray]]
    encoded: dict[str, Any]


@dataclass(frozen=True)
class Ranked:
    """Lists of one name: users int64 [B] (rows of the batch), items int32 [B, n], scores float32 [B, n] (falling; padded with item 0),
    sources int64 [B, n] (numbers of models), reasons int32 [B, n] (history items, 0 for none; None: not asked). `variety`: how a fused
    list was diversified, None for a plain list."""

    name: str
    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    sources: np.ndarray
    reasons: np.ndarray | None = None
    variety: Variety | None = None


def score_candidates(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, fused: Sequence[str], watch: Watch
) -> Scored:
    """Candidates of users who all have a history, from every model, and those of the `fused` ones scored by each of these."""
    hidden, encoded, best = Hidden(search.banned, histories), {}, {}
    for name, model in models.items():
        with watch.on(name):
            encoded[name] = model.encode(histories)
            best[name] = top_candidates(model, encoded[name], hidden, search.candidates, search.tile, search.device)
    with watch.on(FUSED):
        items = blend.union([best[name][0] for name in fused])
    scores = np.empty((len(fused), *items.shape), np.float32)
    for own, name in zip(scores, fused):
        with watch.on(name):
            own[:] = models[name].score_items(encoded[name], items)
    return Scored(items, scores, best, encoded)


def rank(
    models: Mapping[str, ItemModel],
    histories: Histories,
    search: Search,
    wanted: Wanted,
    watch: Watch | None = None,
) -> Iterator[Ranked]:
    """The wanted lists of every user of the batch. Users without history get popularity's list under every name."""
    watch = watch or Watch()
    known = np.flatnonzero(histories.lengths() > 0)
    if len(known):
        for ranked in _of_known(models, histories.take(known), search, wanted, watch):
            yield replace(ranked, users=known[ranked.users])
    unknown = np.flatnonzero(histories.lengths() == 0)
    if len(unknown):
        with watch.on(POPULARITY):
            found = list(_of_unknown(models, histories.take(unknown), search, wanted))
        for ranked in found:
            yield replace(ranked, users=unknown[ranked.users])


def _of_known(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, wanted: Wanted, watch: Watch
) -> Iterator[Ranked]:
    everyone, names = np.arange(len(histories)), list(models)
    found = score_candidates(models, histories, search, wanted.fusion.models, watch)
    for number, name in enumerate(names if wanted.each else ()):
        items, scores = (array[:, : wanted.length] for array in found.best[name])
        yield Ranked(name, everyone, items, scores, np.full(items.shape, number))
    depth = found.items.shape[1] if wanted.varieties else wanted.length
    with watch.on(FUSED):
        reorder = (
            _reorder(wanted, search.candidates, found, models[POPULARITY], histories) if wanted.fusion.ranker else None
        )
        items, scores, given = blend.fuse(wanted.fusion.blend, found.scores, found.items, depth, reorder)
        shares = np.full((len(names), *items.shape), -np.inf, np.float32)
        shares[[names.index(name) for name in wanted.fusion.models]] = given
        listed = list(_listed(models, items, scores, wanted))
    for variety, columns, values in listed:
        own = np.take_along_axis(shares, np.maximum(columns, 0)[None], axis=2)
        with watch.on(FUSED):
            ranked = _fused(models, histories, found, _at(items, columns), values, own, wanted.reasons)
            yield replace(ranked, variety=variety)


def _fused(
    models: Mapping[str, ItemModel],
    histories: Histories,
    found: Scored,
    items: np.ndarray,
    scores: np.ndarray,
    shares: np.ndarray,
    reasons: bool,
) -> Ranked:
    """A fused list, of which `shares` float32 [M, B, n] is what each model gave."""
    everyone = np.arange(len(items))
    if not reasons:
        return Ranked(FUSED, everyone, items, scores, shares.argmax(axis=0))
    why, sources = explain(models, histories, found.encoded, items, shares)
    return Ranked(FUSED, everyone, items, scores, sources, why)


def _reorder(
    wanted: Wanted, depth: int, found: Scored, popularity: ItemModel, histories: Histories
) -> Callable[[np.ndarray], np.ndarray]:
    """From the blend's scores float32 [B, C] to the ranker's."""
    names = wanted.fusion.models
    booster = ranker.load(str(wanted.fusion.ranker), names)
    scores = found.scores.reshape(len(names), -1)
    traits = Traits.of(histories, popularity, wanted.fusion.categories or Categories.none(popularity.n_items))
    rows, items = Rows.padded(found.items), found.items.ravel()
    told = ranker.Told.of(names, rows, items, scores, traits, depth)
    return lambda total: ranker.rerank(booster, told, total.ravel(), wanted.length).reshape(total.shape)


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
    for variety, columns, values in _listed(models, items, scores, wanted):
        yield Ranked(FUSED, everyone, _at(items, columns), values, sources, variety=variety)


def _listed(
    models: Mapping[str, ItemModel], items: np.ndarray, scores: np.ndarray, wanted: Wanted
) -> Iterator[tuple[Variety | None, np.ndarray, np.ndarray]]:
    """(variety, columns int64 [B, n] of the candidates `items` [B, C], -1 for none, scores float32 [B, n]) of each fused list."""
    if not wanted.varieties:
        width = min(wanted.length, items.shape[1])
        yield None, np.tile(np.arange(width), (len(items), 1)), scores[:, :width]
    als = models.get(ALS)
    vectors = als.vectors if isinstance(als, InnerProductModel) else None
    for variety in wanted.varieties:
        yield variety, *spread_out(items, scores, wanted.length, variety, vectors)


def _at(items: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """int32 [B, n]: items int32 [B, C] in these columns, item 0 for column -1."""
    return np.where(columns >= 0, np.take_along_axis(items, np.maximum(columns, 0), axis=1), np.int32(PADDING_ITEM))
