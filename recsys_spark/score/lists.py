"""From a batch of histories to ranked lists: what every Python worker of the score stage does. Numpy only.

Shapes:  B users of a batch · M models · C candidates of a user · n length of a list
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from recsys_spark.columns import FUSED, POPULARITY
from recsys_spark.item_models.base import ItemModel
from recsys_spark.item_models.best import Hidden
from recsys_spark.item_models.histories import Histories
from recsys_spark.score import fusion, ranker
from recsys_spark.score.fusion import Fusion, Rows
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
    """Which lists are made: the fused top `length`, and with `each` the top `length` of every model too, whether it is fused or not."""

    fusion: Fusion
    length: int
    each: bool = False


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
    `best` maps every model to its own candidates: items int32 [B, m] and scores float32 [B, m], falling."""

    items: np.ndarray
    scores: np.ndarray
    best: dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Ranked:
    """Lists of one name: users int64 [B] (rows of the batch), items int32 [B, n], scores float32 [B, n] (falling; padded with item 0),
    sources int64 [B, n] (numbers of models)."""

    name: str
    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    sources: np.ndarray


def score_candidates(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, fused: Sequence[str], watch: Watch
) -> Scored:
    """Candidates of users who all have a history, from every model, and those of the `fused` ones scored by each of these."""
    hidden, encoded, best = Hidden(search.banned, histories), {}, {}
    for name, model in models.items():
        with watch.on(name):
            encoded[name] = model.encode(histories)
            best[name] = top_candidates(
                model, encoded[name], hidden, search.candidates, search.tile, search.device
            )
    with watch.on(FUSED):
        items = fusion.union([best[name][0] for name in fused])
    scores = np.empty((len(fused), *items.shape), np.float32)
    for own, name in zip(scores, fused):
        with watch.on(name):
            own[:] = models[name].score_items(encoded[name], items)
    return Scored(items, scores, best)


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
    with watch.on(FUSED):
        reorder = _reorder(wanted, search.candidates, found, histories) if wanted.fusion.ranker else None
        items, scores, sources = fusion.fuse(
            wanted.fusion.blend, found.scores, found.items, wanted.length, reorder
        )
    numbers = np.array([names.index(name) for name in wanted.fusion.models])
    yield Ranked(FUSED, everyone, items, scores, numbers[sources])


def _reorder(
    wanted: Wanted, depth: int, found: Scored, histories: Histories
) -> Callable[[np.ndarray], np.ndarray]:
    """From the blend's scores float32 [B, C] to the ranker's."""
    names = wanted.fusion.models
    booster = ranker.load(str(wanted.fusion.ranker), names)
    scores = found.scores.reshape(len(names), -1)
    told = ranker.Told.of(names, Rows.padded(found.items), scores, histories.lengths(), depth)
    return lambda total: ranker.rerank(booster, told, total.ravel(), wanted.length).reshape(total.shape)


def _of_unknown(
    models: Mapping[str, ItemModel], histories: Histories, search: Search, wanted: Wanted
) -> Iterator[Ranked]:
    model = models[POPULARITY]
    hidden = Hidden(search.banned, histories)
    items, scores = top_candidates(model, model.encode(histories), hidden, wanted.length, search.tile)
    sources = np.full(items.shape, list(models).index(POPULARITY))
    for name in (*models, FUSED) if wanted.each else (FUSED,):
        yield Ranked(name, np.arange(len(histories)), items, scores, sources)
