"""Search for the blend weights with the best NDCG@k on the validation set.

A coordinate search changes one model's weight at a time, from the best single model and from equal weights. While it
searches, weights are integers whose ratio counts. The objective needs only the ranks of the held-out items. The rank of
an item is one more than the number of candidates with a better score, so nothing is sorted. Independent searches run in
threads, because the compiled loop releases Python's lock.

Shapes:  M models · U users · C candidates of a user, where item 0 is padding · P held-out items among the candidates
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recsys_spark.fusion.blend import METHODS, Blend
from recsys_spark.fusion.sample import Sample
from recsys_spark.jit import compiled
from recsys_spark.metrics.ranking import discounts, ideal_dcg

log = logging.getLogger(__name__)

FULL = 32
"""The weight of a single model at the start, and about the sum of equal weights. The smallest change is 1."""
COARSE, FINE = FULL // 2, FULL // 8
"""The first step of a search, and of one that starts from good weights. It is halved when no step helps."""

Units = tuple[int, ...]
"""Integer weights of the models."""


class BlendObjective:
    """NDCG@k of the fused lists of the sample's users, as a function of the weights.

    Held-out items that are not among the candidates count in the ideal DCG.
    """

    def __init__(self, sample: Sample, scores: np.ndarray, k: int):
        """`scores` float32 [M, U, C] are weighted and added up; normally they are `sample.normalised(method)`."""
        self.scores, self.items = scores, sample.items
        columns = np.arange(1, sample.items.shape[1] + 1)
        self.widths = np.where(sample.items > 0, columns, 0).max(axis=1, initial=0)
        """int64 [U]: the columns up to the last candidate."""
        users, self.columns = np.nonzero(sample.relevant)
        # the held-out items of user u are in columns[first[u]:first[u + 1]]
        self.first = np.searchsorted(users, np.arange(len(sample.users) + 1))
        self.ideal, self.discounts = ideal_dcg(sample.held_out, k), discounts(k)

    def __call__(self, weights: np.ndarray, users: np.ndarray) -> np.ndarray:
        """Return float64 [len(users)]: the NDCG of these rows of users. `weights` has one number a model."""
        weights = np.asarray(weights, np.float32)
        ndcg = np.zeros(len(users))
        _ndcg(
            self.scores, weights, self.items, self.widths, users, self.columns, self.first, self.ideal, self.discounts,
            ndcg,
        )  # fmt: skip
        return ndcg

    def best(self, users: np.ndarray, start: Units | None = None) -> Units:
        """Return the weights of the best mean NDCG over `users`; the search begins at `start`, if there is one."""

        def value(units: Units) -> float:
            return float(self(fractions(units), users).sum())

        return climb(value, start, FINE)[1] if start else search(value, len(self.scores))[1]

    def best_of_each(self, parts: Sequence[np.ndarray], starts: Sequence[Units] | None = None) -> list[Units]:
        """Return `best` of each part of the users, with the start of that part."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.best, parts, starts or [None] * len(parts)))


def best_blend(sample: Sample, k: int) -> tuple[Blend, float]:
    """Return the blend with the best mean NDCG@k over the sample, and that mean. Of equals the first method wins."""
    rows = np.arange(len(sample.users))

    def by_method(method: str) -> tuple[Blend, float]:
        objective = BlendObjective(sample, sample.normalised(method), k)
        weights = fractions(objective.best(rows))
        return Blend(method, tuple(weights.tolist())), sample.mean(objective(weights, rows))

    with ThreadPoolExecutor() as pool:
        blends = list(pool.map(by_method, METHODS))
    for blend, ndcg in blends:
        weights = ", ".join(f"{weight:.3f}" for weight in blend.weights)
        log.info("fusion: %s with weights %s has validation NDCG@%d %.4f", blend.method, weights, k, ndcg)
    return max(blends, key=lambda pair: pair[1])


def single_model_ndcg(sample: Sample, method: str, k: int) -> dict[str, float]:
    """Return the mean NDCG@k of each model's own list."""
    objective, rows = BlendObjective(sample, sample.normalised(method), k), np.arange(len(sample.users))
    one_hot = np.eye(len(sample.models))
    return {name: sample.mean(objective(one_hot[m], rows)) for m, name in enumerate(sample.models)}


def search(value: Callable[[Units], float], n_models: int) -> tuple[float, Units]:
    """Return the largest `value` that was met, and its weights. Ties go to single models, the first of them first."""
    singles = [tuple(FULL * int(i == m) for i in range(n_models)) for m in range(n_models)]
    starts = [max(singles, key=value), (max(FULL // n_models, 1),) * n_models]
    return max((climb(value, start, COARSE) for start in starts), key=lambda result: result[0])


def climb(value: Callable[[Units], float], start: Units, step: int) -> tuple[float, Units]:
    """Return the value and weights at the end of a coordinate search. The step is halved when no move helps."""
    best, here = value(start), start
    while step:
        before = here
        for model in range(len(start)):
            for change in (step, -step):
                there = (*here[:model], max(here[model] + change, 0), *here[model + 1 :])
                if there != here and any(there) and (moved := value(there)) > best:
                    best, here = moved, there
        step = step if here != before else step // 2
    return best, here


def fractions(units: Units) -> np.ndarray:
    """Return float64 [M]: the weights divided by their sum."""
    return np.asarray(units, np.float64) / sum(units)


@compiled
def _ndcg(  # type: ignore[no-untyped-def]
    scores, weights, items, widths, users, columns, first, ideal, discounts, ndcg
):  # fmt: skip
    total = np.empty(items.shape[1], np.float32)
    for row in range(len(users)):
        user, width = users[row], widths[users[row]]
        for c in range(width):
            total[c] = 0 if items[user, c] else -np.inf
        for m in range(len(weights)):  # in the order of blend.weighted_sum, so that ties are the same
            if weights[m]:
                for c in range(width):
                    total[c] += weights[m] * scores[m, user, c]
        gain = 0.0
        for column in columns[first[user] : first[user + 1]]:
            better = 0
            # candidates ascend, so of equal scores the one to the left has the lower item and ranks first
            for c in range(column):
                better += total[c] >= total[column]
            for c in range(column + 1, width):
                better += total[c] > total[column]
            if better < len(discounts):
                gain += discounts[better]
        if gain:
            ndcg[row] = gain / ideal[user]
