"""From a batch of histories to ranked lists: the work of each Python worker of the score stage. Numpy only.

    histories --encode (models)--> top_k (topk) --> union, scored by all models --> fuse (fusion) --> diversify (rules)
              --> explain (models)

Users without history get the list of the popularity model instead of the fused candidates.

Shapes:  B users of a batch · M models · C candidates of a user, 0-padded · n length of a list
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recsys_spark.columns import ALS, FUSED, POPULARITY
from recsys_spark.fusion.blend import union
from recsys_spark.fusion.fuse import FusedCandidates, Fusion, fuse
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories
from recsys_spark.models.inner_product import InnerProductModel
from recsys_spark.rules.diversity import Diversification, diversify
from recsys_spark.stages.score.because import explain
from recsys_spark.topk import Exclusions, top_k

Models = Mapping[str, ItemModel]


@dataclass(frozen=True)
class CandidateSearch:
    """How candidates are found: `candidates` items of each model without the `banned` ones (bool [I]).

    `tile` is the number of items scored at a time, `device` torch's name of a GPU, if there is one.
    """

    banned: np.ndarray
    candidates: int
    tile: int
    device: str | None = None


@dataclass(frozen=True)
class ListRequest:
    """The lists to make: the fused top `length`, and with `each_model` the top `length` of every model as well.

    `explained` adds to each item of a fused list the history item that contributed most. Each of `diversifications`
    makes one diversified fused list. Without any there is one plain fused list.
    """

    fusion: Fusion
    length: int
    each_model: bool = False
    explained: bool = False
    diversifications: Sequence[Diversification] = ()


@dataclass(frozen=True)
class Stopwatch:
    """Seconds of work by model, and by FUSED for all work after the models."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        clock = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - clock


@dataclass(frozen=True)
class Candidates:
    """The union of the fused models' candidates: `items` int32 [B, C], ascending, and their `scores` float32 [M, B, C].

    `top` maps every model to its own candidates, items int32 [B, m] and falling scores float32 [B, m], and `encoded` to
    its view of the users.
    """

    items: np.ndarray
    scores: np.ndarray
    top: dict[str, tuple[np.ndarray, np.ndarray]]
    encoded: dict[str, Any]


@dataclass(frozen=True)
class RankedLists:
    """One list of each user: the list of a model, or a fused list under the name FUSED.

    `users` int64 [B] are rows of the batch, `items` int32 [B, n] are 0-padded, `scores` float32 [B, n] fall. `sources`
    int64 [B, n] index `source_names`. `because` int32 [B, n] are history items, 0 where there is none.
    """

    name: str
    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    sources: np.ndarray
    source_names: Sequence[str]
    because: np.ndarray | None = None
    diversification: Diversification | None = None


def rank(
    models: Models,
    histories: Histories,
    search: CandidateSearch,
    request: ListRequest,
    watch: Stopwatch | None = None,
) -> Iterator[RankedLists]:
    """Yield the requested lists of every user of the batch."""
    watch = watch or Stopwatch()
    has_history = histories.lengths() > 0
    for rows, make in ((np.flatnonzero(has_history), _rank_warm), (np.flatnonzero(~has_history), _rank_cold)):
        if len(rows):
            for lists in make(models, histories.take(rows), search, request, watch):
                yield replace(lists, users=rows)


def score_candidates(
    models: Models, histories: Histories, search: CandidateSearch, fused: Sequence[str], watch: Stopwatch
) -> Candidates:
    """Return the candidates of users with a history: those of each model, and the union of `fused`, scored by these."""
    exclusions, encoded, top = Exclusions(search.banned, histories), {}, {}
    for name, model in models.items():
        with watch.on(name):
            encoded[name] = model.encode(histories)
            top[name] = top_k(model, encoded[name], exclusions, search.candidates, search.tile, search.device)
    with watch.on(FUSED):
        items = union([top[name][0] for name in fused])
    scores = np.empty((len(fused), *items.shape), np.float32)
    for number, name in enumerate(fused):
        with watch.on(name):
            scores[number] = models[name].score_items(encoded[name], items)
    return Candidates(items, scores, top, encoded)


def _rank_warm(
    models: Models, histories: Histories, search: CandidateSearch, request: ListRequest, watch: Stopwatch
) -> Iterator[RankedLists]:
    fusion = request.fusion
    candidates = score_candidates(models, histories, search, fusion.models, watch)
    if request.each_model:
        for name, (items, scores) in candidates.top.items():
            yield _single(name, name, items, scores, request.length)
    with watch.on(FUSED):
        n = candidates.items.shape[1] if request.diversifications else request.length
        fused = fuse(fusion, candidates.items, candidates.scores, n, models, histories)
        lists = _fused_lists(models, fusion.models, histories, candidates.encoded, fused, request)
    yield from lists


def _rank_cold(
    models: Models, histories: Histories, search: CandidateSearch, request: ListRequest, watch: Stopwatch
) -> Iterator[RankedLists]:
    model = models[POPULARITY]
    with watch.on(POPULARITY):
        n = search.candidates if request.diversifications else request.length
        items, scores = top_k(model, model.encode(histories), Exclusions(search.banned, histories), n, search.tile)
    if request.each_model:
        for name in models:
            yield _single(name, POPULARITY, items, scores, request.length)
    with watch.on(FUSED):
        fused = FusedCandidates(items, scores, np.zeros((1, *items.shape), np.float32))
        lists = _fused_lists(models, (POPULARITY,), histories, {}, fused, request)
    yield from lists


def _single(name: str, source: str, items: np.ndarray, scores: np.ndarray, n: int) -> RankedLists:
    """Return the lists of one model, with one source."""
    items, scores = items[:, :n], scores[:, :n]
    return RankedLists(name, np.arange(len(items)), items, scores, np.zeros(items.shape, np.int64), (source,))


def _fused_lists(
    models: Models,
    members: Sequence[str],
    histories: Histories,
    encoded: Mapping[str, Any],
    fused: FusedCandidates,
    request: ListRequest,
) -> list[RankedLists]:
    """Return the fused lists of `request`. `members` are the models that `fused.contributions` belong to."""
    als = models.get(ALS)
    vectors = als.vectors if isinstance(als, InnerProductModel) else None
    lists = []
    for diversification in request.diversifications or (None,):
        if diversification:
            top = fused.take(*diversify(fused.items, fused.scores, request.length, diversification, vectors))
        else:
            top = fused.first(request.length)
        because, sources = None, top.contributions.argmax(axis=0)
        if request.explained:
            explainers = {name: models[name] for name in members}
            because, sources = explain(explainers, histories, encoded, top.items, top.contributions)
        rows = np.arange(len(histories))
        lists.append(RankedLists(FUSED, rows, top.items, top.scores, sources, members, because, diversification))
    return lists
