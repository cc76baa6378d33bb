"""The weights of a blend: those with the best NDCG@k on the valid fold. Numpy only.

Only the ranks of the held-out items are needed, and a rank is one more than the number of candidates that stand better, so nothing is
sorted. The search goes up one model's weight after the other, from the best single model and from equal weights; weights are whole
numbers while it searches, and shares of their sum when they are used. Searches that do not need each other run at once: the compiled
loops hold no lock.

Shapes:  M models · U users · T candidates of all users · P held-out items found among the candidates
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recsys_spark.fusion.blend import METHODS, Blend
from recsys_spark.fusion.sample import Sample
from recsys_spark.jit import compiled

log = logging.getLogger(__name__)

WHOLE = 32
"""The weight of a model that stands alone, and of all models together where they start equal (about). The finest step is 1."""
COARSE, NEAR = WHOLE // 2, WHOLE // 8
"""The first step from anywhere, and from weights that are believed to be good; it is halved when no step helps."""

Units = tuple[int, ...]
"""Weights as whole numbers; what counts is their ratio."""


class Objective:
    """NDCG@k of the fused lists of a sample's users, for any weights.

    DCG with gain 1 over the ideal of min(k, held-out items), held-out items that are no candidates counted; 0 for a user without any.
    """

    def __init__(self, sample: Sample, given: np.ndarray, k: int):
        """`given` float32 [M, T]: what is to be weighted, as `Sample.shares` has it."""
        self.k, self.rows, self.given = k, sample.rows, given
        at = np.flatnonzero(sample.relevant)
        self.found = at - sample.rows.starts[sample.user[at]]
        """int64 [P]: column of each held-out item among its user's candidates; a user's lie from first[user] to first[user + 1]."""
        self.first = np.searchsorted(sample.user[at], np.arange(len(sample.users) + 1))
        self.worth = worth(sample.held_out, k)

    def __call__(self, weights: np.ndarray, users: np.ndarray) -> np.ndarray:
        """float64 [len(users)]: NDCG of those rows of users. `weights` has one number a model."""
        return _ndcg(
            self.given,
            np.asarray(weights, np.float32),
            users,
            self.rows.starts,
            self.rows.lengths,
            self.found,
            self.first,
            self.worth,
            self.k,
        )

    def best_of_each(self, parts: Sequence[np.ndarray], near: Sequence[Units] | None = None) -> list[Units]:
        """`best` of each part of the users, from its own of `near`; the parts at once."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.best, parts, near or [None] * len(parts)))

    def best(self, users: np.ndarray, near: Units | None = None) -> Units:
        """The weights of the best mean over `users` that are found, from `near` or else from everywhere."""
        telling = users[self.rows.lengths[users] > 0]

        def value(units: Units) -> float:
            return float(self(shared(units), telling).sum())

        return climb(value, near, NEAR)[1] if near else search(value, len(self.given))[1]


def best_blend(sample: Sample, k: int) -> tuple[Blend, float]:
    """Method and weights of the best mean NDCG@k over the sample's users, and that mean (the first found of equals; methods in their order)."""
    everyone = np.arange(len(sample.users))

    def of_method(method: str) -> tuple[Blend, float]:
        objective = Objective(sample, sample.shares(method), k)
        weights = shared(objective.best(everyone))
        return Blend(method, tuple(weights.tolist())), float(objective(weights, everyone).mean())

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(of_method, METHODS))
    for blend, ndcg in found:
        log.info("fusion: %s of %s reaches valid NDCG@%d %.4f", blend.method, list(blend.weights), k, ndcg)
    return max(found, key=lambda pair: pair[1])


def alone(sample: Sample, method: str, k: int) -> dict[str, float]:
    """Mean NDCG@k of each model's own list."""
    objective, everyone = Objective(sample, sample.shares(method), k), np.arange(len(sample.users))
    own = np.eye(len(sample.models), dtype=np.float32)
    return {name: float(objective(own[m], everyone).mean()) for m, name in enumerate(sample.models)}


def search(value: Callable[[Units], float], n_models: int) -> tuple[float, Units]:
    """The largest `value` found, and where. Deterministic; single models win ties, the first of them first."""
    singles = [tuple(WHOLE * int(i == m) for i in range(n_models)) for m in range(n_models)]
    single = max(singles, key=value)
    starts = [single, (max(WHOLE // n_models, 1),) * n_models]
    return max((climb(value, start, COARSE) for start in starts), key=lambda found: found[0])


def climb(value: Callable[[Units], float], start: Units, step: int) -> tuple[float, Units]:
    """Up from `start`, one weight at a time by `step` and then by ever finer steps, as long as it helps."""
    best, here = value(start), start
    while step:
        before = here
        for model in range(len(start)):
            for change in (step, -step):
                moved = (*here[:model], max(here[model] + change, 0), *here[model + 1 :])
                if moved != here and any(moved) and (found := value(moved)) > best:
                    best, here = found, moved
        step = step if here != before else step // 2
    return best, here


def shared(units: Units) -> np.ndarray:
    """float64 [M]: the weights as shares of their sum."""
    return np.asarray(units, np.float64) / sum(units)


def worth(held_out: np.ndarray, k: int) -> np.ndarray:
    """float64 [U]: 1 / the ideal DCG@k of users with so many held-out items; 0 for none."""
    ideal = np.concatenate([[np.inf], np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))])
    return np.asarray(1 / ideal[np.minimum(held_out, k)])


@compiled
def _ndcg(given, weights, users, starts, lengths, found, first, worth, k):  # type: ignore[no-untyped-def]
    values = np.zeros(len(users))
    room = np.empty(lengths.max() if len(lengths) else 0, np.float32)
    for number in range(len(users)):
        user = users[number]
        start, n = starts[user], lengths[user]
        if n == 0:
            continue
        total = room[:n]
        total[:] = 0
        for m in range(len(weights)):  # in the order of fusion.weighted_sum, so that ties are the same
            if weights[m]:
                weight, own = weights[m], given[m, start : start + n]
                for c in range(n):
                    total[c] += weight * own[c]
        gain = 0.0
        for at in range(first[user], first[user + 1]):
            place, score, better = found[at], total[found[at]], 0
            # an equal score stands better when its item is lower, that is further left
            for c in range(place):
                better += total[c] >= score
            for c in range(place + 1, n):
                better += total[c] > score
            if better < k:
                gain += 1 / np.log2(better + 2.0)
        values[number] = gain * worth[user]
    return values
