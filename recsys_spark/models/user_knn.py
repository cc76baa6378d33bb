"""User-user neighbours as an item model: what those most like a user chose. `stages/baselines/user_knn.py` makes it.

The model holds the choices of reference users, by user and by item. A user is compared with them by the history alone, so one who came later
is served like any other, and whether the user is a reference too does not matter: a reference user who has nothing but what the history
has is left out, the user himself first of all. So he never takes a neighbour's place, neither in a backtest, where the fit knows a part
of his history, nor in a release, where it knows all of it.

All sums are in float64, in the order of the history and of the neighbours, and rounded once: the same for any batch and tile.

Shapes:  B users of a batch · U reference users · I items counting the padding item 0 · T pairs · K neighbours of a user at most ·
         C candidates a user · m length of a list
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_spark.jit import compiled
from recsys_spark.models import explanations
from recsys_spark.models.base import ItemModel
from recsys_spark.models.heap import Hidden, item_of, score_of
from recsys_spark.models.histories import Histories
from recsys_spark.models.largest import ROOM, largest
from recsys_spark.models.sums import check_items, check_scores, take_best

ROUNDING = 1e-9
"""Relative: sums of the same weights in another order differ by less."""


@dataclass(frozen=True)
class Neighbours:
    """Of B users: counts int64 [B] · users int32 [B, K], numbers of reference users · similarities float32 [B, K], above zero; what is
    beyond the counts means nothing."""

    counts: np.ndarray
    users: np.ndarray
    similarities: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)


class UserNeighbourModel(ItemModel):
    """score(u, i) = target_i * sum over those v of u's neighbours who have i of similarity(u, v); how often i was chosen does not count.

    With w_i the weight of an item, o(u, v) the sum of w_i over the items of both, m_u that over u's items, and W that over all items,

        cosine:   similarity = (o / (n_u n_v)^user_power)^similarity_power, n_u the number of u's items;
        pearson:  similarity = ((o - m_u m_v / W) / (s_u s_v)^user_power)^similarity_power, s_u = m_u (1 - m_u / W).

    User-based neighbours: Resnick et al., GroupLens, CSCW 1994 (Pearson); powers of the cosine: Aiolli, RecSys 2013.
    With user_power 0.5 and similarity_power 1 the first is the cosine of two rows of 0 and 1 if all w_i are 1, and the second their
    correlation, in which item i weighs w_i: its covariance is (o - m_u m_v / W) / W and the variances are s_u / W and s_v / W (with all
    w_i = 1 the phi coefficient). A correlation below zero makes no neighbour, nor does a user without variance. The factor n_u or s_u of
    the user's own changes no ranking; it keeps scores of different users on one scale.

    Of u's similarities the `neighbours` largest count, rounded to float32, ties by number. Items with weight 0, which the fit did not
    know, contribute nothing and do not count in n_u.

    arrays: CSR rows, ascending: `user_indptr` int64 [U+1] · `user_items` int32 [T] of the reference users; `item_indptr` int64 [I+1] ·
    `item_users` int32 [T] of the items; `weights` and `targets` float64 [I]; `masses` float64 [U], m_v · `scales` float64 [U],
    n_v^-user_power or s_v^-user_power.
    parameters: `neighbours`, `user_power`, `similarity_power`, and `centre`: 1 / W for pearson, 0 for cosine.
    """

    kind = "user_knn"

    def encode(self, histories: Histories) -> Neighbours:
        """The neighbours of each user. `ValueError` when a history holds an item that the model has no row for."""
        check_items(histories.items, self.n_items)
        a, p = self.arrays, self.parameters
        k = max(1, min(p["neighbours"], len(a["masses"])))
        shape = len(histories), k
        found = Neighbours(np.empty(len(histories), np.int64), np.empty(shape, np.int32), np.empty(shape, np.float32))
        measures = measure(histories.indptr, histories.items, a["weights"], float(p["centre"]), float(p["user_power"]))
        _find(
            histories.indptr, histories.items, *measures, a["weights"], a["item_indptr"], a["item_users"],
            a["user_indptr"], a["user_items"], a["masses"], a["scales"], float(p["centre"]),
            float(p["similarity_power"]), found.counts, found.users, found.similarities,
        )  # fmt: skip
        return found

    def rows(self, encoded: Neighbours, start: int, stop: int) -> Neighbours:
        part = slice(start, stop)
        return Neighbours(encoded.counts[part], encoded.users[part], encoded.similarities[part])

    def score_tile(self, encoded: Neighbours, start: int, stop: int) -> np.ndarray:
        items = np.arange(start, stop, dtype=np.int32)
        return self.score_items(encoded, np.tile(items, (len(encoded), 1)))

    def score_items(self, encoded: Neighbours, items: np.ndarray) -> np.ndarray:
        check_items(items, self.n_items)
        scores = np.empty(items.shape, np.float32)
        _score_items(*self._voices(encoded), items, scores)
        return scores

    def explain(self, histories: Histories, encoded: Neighbours, items: np.ndarray) -> np.ndarray:
        """The history item j of the largest part of the score: of every neighbour v who has i, similarity(u, v) times the share of j in what
        the similarity is made of, w_j ([v has j] - m_v / W) for pearson and w_j [v has j] for cosine. The parts sum to the score."""
        check_items(items, self.n_items)
        a, found = self.arrays, np.zeros(items.shape, np.int32)
        explanations.of_voices(
            histories.indptr, histories.items, a["weights"], a["masses"], float(self.parameters["centre"]),
            *self._voices(encoded)[:-1], items, found,
        )  # fmt: skip
        return found

    def top(self, encoded: Neighbours, hidden: Hidden, m: int) -> tuple[np.ndarray, np.ndarray]:
        """The time is that of the neighbours' rows, whatever the number of items is; items that no neighbour has score 0."""
        items = np.zeros((len(encoded), m), np.int32)
        scores = np.full((len(encoded), m), -np.inf, np.float32)
        _top(*self._voices(encoded), hidden.indptr, hidden.seen, hidden.banned, items, scores)
        check_scores(scores)
        return items, scores

    def _voices(self, encoded: Neighbours) -> tuple[np.ndarray, ...]:
        """Who says how much, what they say it of, and what it is multiplied by."""
        a = self.arrays
        said = encoded.counts, encoded.users, encoded.similarities
        return *said, a["user_indptr"], a["user_items"], a["targets"]


@compiled
def measure(
    indptr: np.ndarray, items: np.ndarray, weights: np.ndarray, centre: float, user_power: float
) -> tuple[np.ndarray, np.ndarray]:
    """(masses, scales) float64 of users whose items are CSR rows: m_u, and n_u^-user_power or, with a `centre`, s_u^-user_power. A user
    without items or variance has scale 0."""
    masses, scales = np.zeros(len(indptr) - 1), np.zeros(len(indptr) - 1)
    for user in range(len(masses)):
        size = 0.0
        for at in range(indptr[user], indptr[user + 1]):
            weight = weights[items[at]]
            masses[user] += weight
            size += weight > 0
        if centre > 0:
            rest = 1 - masses[user] * centre
            size = masses[user] * rest if rest > ROUNDING else 0.0
        if size > 0:
            scales[user] = size**-user_power
    return masses, scales


@compiled
def _find(
    starts: np.ndarray,
    chosen: np.ndarray,
    own_masses: np.ndarray,
    own_scales: np.ndarray,
    weights: np.ndarray,
    item_indptr: np.ndarray,
    item_users: np.ndarray,
    user_indptr: np.ndarray,
    user_items: np.ndarray,
    masses: np.ndarray,
    scales: np.ndarray,
    centre: float,
    power: float,
    counts: np.ndarray,
    users: np.ndarray,
    similarities: np.ndarray,
) -> None:
    """Fill counts [B], users and similarities [B, K]."""
    n_users, k = len(masses), users.shape[1]
    sums = np.zeros(n_users)
    touched = np.empty(n_users + 1, np.int32)
    values = np.empty(n_users, np.float32)
    keys = np.empty(ROOM * k, np.uint64)
    marks = np.zeros(len(weights), np.bool_)
    for user in range(len(counts)):
        history = chosen[starts[user] : starts[user + 1]]
        marks[history] = True
        n = 0
        for item in history:
            weight = weights[item]
            for at in range(item_indptr[item], item_indptr[item + 1]):
                v = item_users[at]
                before = sums[v]
                touched[n] = v  # stays there when it is new
                n += before == 0
                sums[v] = before + weight
        expected = own_masses[user] * centre
        for x in range(n):
            v = touched[x]
            overlap, values[x] = sums[v], 0
            sums[v] = 0
            whole = overlap > masses[v] * (1 - ROUNDING)  # as good as all of it: look closely
            if not (whole and _all_marked(user_items[user_indptr[v] : user_indptr[v + 1]], marks)):
                value = (overlap - expected * masses[v]) * own_scales[user] * scales[v]
                if value > 0:
                    values[x] = value if power == 1 else value**power
        found = largest(touched, values, n, k, keys)
        for x in range(found):
            users[user, x], similarities[user, x] = item_of(keys[x]), score_of(keys[x])
        counts[user] = found
        marks[history] = False


@compiled
def _all_marked(items: np.ndarray, marks: np.ndarray) -> bool:
    for item in items:  # noqa: SIM110 - compiled
        if not marks[item]:
            return False
    return True


@compiled
def _score_items(
    counts: np.ndarray,
    users: np.ndarray,
    similarities: np.ndarray,
    indptr: np.ndarray,
    chosen: np.ndarray,
    targets: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Fill scores [B, C] of the items [B, C]."""
    sums = np.zeros(len(targets))
    for user in range(len(items)):
        for x in range(counts[user]):
            for at in range(indptr[users[user, x]], indptr[users[user, x] + 1]):
                sums[chosen[at]] += similarities[user, x]
        for c in range(items.shape[1]):
            scores[user, c] = sums[items[user, c]] * targets[items[user, c]]
        for x in range(counts[user]):
            for at in range(indptr[users[user, x]], indptr[users[user, x] + 1]):
                sums[chosen[at]] = 0


@compiled
def _top(
    counts: np.ndarray,
    users: np.ndarray,
    similarities: np.ndarray,
    indptr: np.ndarray,
    chosen: np.ndarray,
    targets: np.ndarray,
    starts: np.ndarray,
    seen: np.ndarray,
    banned: np.ndarray,
    items: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Fill items and scores [B, m]."""
    n_items, m = len(targets), items.shape[1]
    sums = np.zeros(n_items)
    touched = np.empty(n_items + 1, np.int32)
    values = np.empty(n_items, np.float32)
    keys = np.empty(ROOM * m, np.uint64)
    for user in range(len(items)):
        n = 0
        for x in range(counts[user]):
            similarity = similarities[user, x]
            for at in range(indptr[users[user, x]], indptr[users[user, x] + 1]):
                item = chosen[at]
                before = sums[item]
                touched[n] = item
                n += before == 0
                sums[item] = before + similarity
        for x in range(n):
            sums[touched[x]] *= targets[touched[x]]
        history = seen[starts[user] : starts[user + 1]]
        take_best(sums, touched, n, history, banned, values, keys, items[user], scores[user])
