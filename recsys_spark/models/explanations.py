"""Which history item a score owes most to, as loops: for the models whose scores are sums over the history.

Each function fills found int32 [B, C], which is zero, for the items i int32 [B, C] of users whose histories are CSR rows, oldest item first:
with the history item j of the largest term above zero, the newest of equals. Terms are float64 and a user's own, so the same in any batch.

Shapes:  B users of a batch · C items asked about, 0 for none · F factors · K neighbours of a user at most
"""

from __future__ import annotations

import numpy as np

from recsys_spark.columns import PADDING_ITEM
from recsys_spark.jit import REORDER, compiled


@compiled
def of_neighbours(
    starts: np.ndarray,
    chosen: np.ndarray,
    indptr: np.ndarray,
    neighbours: np.ndarray,
    similarities: np.ndarray,
    items: np.ndarray,
    found: np.ndarray,
) -> None:
    """Terms similarity[j, i]; the table is CSR rows of the history items, ascending, none of its similarities zero."""
    for user in range(len(items)):
        for c in range(items.shape[1]):
            item, most = items[user, c], np.float32(0)
            if item == PADDING_ITEM:
                continue
            for at in range(starts[user], starts[user + 1]):
                row, end = indptr[chosen[at]], indptr[chosen[at] + 1]
                x = row + np.searchsorted(neighbours[row:end], item)
                if x < end and neighbours[x] == item and similarities[x] >= most:
                    found[user, c], most = chosen[at], similarities[x]


@compiled(fastmath=REORDER)
def of_filter(
    indptr: np.ndarray,
    chosen: np.ndarray,
    vectors: np.ndarray,
    weights: np.ndarray,
    spectrum: np.ndarray,
    items: np.ndarray,
    found: np.ndarray,
) -> None:
    """Terms weights_j times the sum over f of spectrum_f vectors[j, f] vectors[i, f]."""
    filtered = np.empty(len(spectrum))
    for user in range(len(items)):
        for c in range(items.shape[1]):
            if items[user, c] == PADDING_ITEM:
                continue
            vector, most = vectors[items[user, c]], 0.0
            for f in range(len(filtered)):
                filtered[f] = spectrum[f] * vector[f]
            for at in range(indptr[user], indptr[user + 1]):
                source, term = vectors[chosen[at]], 0.0
                for f in range(len(filtered)):
                    term += filtered[f] * source[f]
                term *= weights[chosen[at]]
                if term > 0 and term >= most:
                    found[user, c], most = chosen[at], term


@compiled(fastmath=REORDER)
def of_systems(
    indptr: np.ndarray,
    chosen: np.ndarray,
    at: np.ndarray,
    confidences: np.ndarray,
    ridge: np.ndarray,
    spectrum: np.ndarray,
    local: np.ndarray,
    asked: np.ndarray,
    items: np.ndarray,
    found: np.ndarray,
) -> None:
    """Terms w_j y_j^T A^-1 y_i with A = D + Y^T W Y, Y the history's vectors, W their confidences and D = spectrum + ridge, which is diagonal.

    at int64 [T], history entry by entry, and asked int64 [B, C] count the vectors `local` float32 [U, F]; ridge float64 [B] above zero. The terms t
    of a short history solve a system of its own size, (W^-1 + Y D^-1 Y^T) t = Y D^-1 y_i (Woodbury); a long one's come from A.
    """
    for user in range(len(items)):
        if not items[user].any():
            continue
        history = at[indptr[user] : indptr[user + 1]]
        weights = confidences[indptr[user] : indptr[user + 1]]
        diagonal = spectrum + ridge[user]
        short = len(history) <= len(diagonal)
        size = len(history) if short else len(diagonal)
        system, solution, terms = np.zeros((size, size)), np.empty(size), np.empty(len(history))
        if short:
            _set_small(local, history, weights, diagonal, system)
        else:
            _set_large(local, history, weights, diagonal, system)
        _factor(system)
        for c in range(items.shape[1]):
            if items[user, c] == PADDING_ITEM:
                continue
            vector = local[asked[user, c]]
            if short:
                for x in range(len(history)):
                    terms[x] = _product(local[history[x]], vector, diagonal)
                _solve(system, terms)
            else:
                solution[:] = vector
                _solve(system, solution)
                for x in range(len(history)):
                    terms[x] = weights[x] * (local[history[x]] * solution).sum()
            most = 0.0
            for x in range(len(history)):
                if terms[x] > 0 and terms[x] >= most:
                    found[user, c], most = chosen[indptr[user] + x], terms[x]


@compiled(fastmath=REORDER)
def _product(one: np.ndarray, other: np.ndarray, diagonal: np.ndarray) -> float:
    """one^T D^-1 other."""
    total = 0.0
    for f in range(len(diagonal)):
        total += np.float64(one[f]) * other[f] / diagonal[f]
    return total


@compiled(fastmath=REORDER)
def _set_small(
    local: np.ndarray, history: np.ndarray, weights: np.ndarray, diagonal: np.ndarray, system: np.ndarray
) -> None:
    """The lower half of W^-1 + Y D^-1 Y^T."""
    for x in range(len(history)):
        for y in range(x + 1):
            system[x, y] = _product(local[history[x]], local[history[y]], diagonal)
        system[x, x] += 1 / np.float64(weights[x])


@compiled(fastmath=REORDER)
def _set_large(
    local: np.ndarray, history: np.ndarray, weights: np.ndarray, diagonal: np.ndarray, system: np.ndarray
) -> None:
    """The lower half of D + Y^T W Y, which begins as zero."""
    for x in range(len(history)):
        vector = local[history[x]]
        for f in range(len(diagonal)):
            scaled = np.float64(weights[x]) * vector[f]
            for g in range(f + 1):
                system[f, g] += scaled * vector[g]
    for f in range(len(diagonal)):
        system[f, f] += diagonal[f]


@compiled(fastmath=REORDER)
def _factor(system: np.ndarray) -> None:
    """The lower half becomes its Cholesky factor."""
    for f in range(len(system)):
        for g in range(f + 1):
            total = system[f, g]
            for h in range(g):
                total -= system[f, h] * system[g, h]
            system[f, g] = np.sqrt(total) if f == g else total / system[g, g]


@compiled(fastmath=REORDER)
def _solve(factor: np.ndarray, vector: np.ndarray) -> None:
    """`vector` becomes x of L L^T x = vector, `factor` being L."""
    size = len(factor)
    for f in range(size):
        total = vector[f]
        for g in range(f):
            total -= factor[f, g] * vector[g]
        vector[f] = total / factor[f, f]
    for f in range(size - 1, -1, -1):
        vector[f] /= factor[f, f]
        for g in range(f):
            vector[g] -= factor[f, g] * vector[f]


@compiled
def of_voices(
    starts: np.ndarray,
    history_items: np.ndarray,
    weights: np.ndarray,
    masses: np.ndarray,
    centre: float,
    counts: np.ndarray,
    users: np.ndarray,
    similarities: np.ndarray,
    indptr: np.ndarray,
    chosen: np.ndarray,
    items: np.ndarray,
    found: np.ndarray,
) -> None:
    """Parts of the sum of the similarities of the neighbours who have i, as `UserNeighbourModel.reasons` has them."""
    # 1 + the place of an item in the user's history, and among those asked about; 0 for all others
    place, column = np.zeros(len(weights), np.int32), np.zeros(len(weights), np.int32)
    common, listed = np.empty(len(weights), np.int32), np.empty(items.shape[1], np.int32)
    for user in range(len(items)):
        history = history_items[starts[user] : starts[user + 1]]
        parts = np.zeros((items.shape[1], len(history)))
        lost = np.zeros(items.shape[1])  # of a history item's weight, beside neighbours who have it or not
        expected = 0.0
        for at in range(len(history)):
            place[history[at]] = at + 1
            expected += weights[history[at]] * centre
        for c in range(items.shape[1]):
            column[items[user, c]] = c + 1
        column[PADDING_ITEM] = 0
        for x in range(counts[user] if items[user].any() else 0):
            v, n_common, n_listed, overlap = users[user, x], 0, 0, 0.0
            for item in chosen[indptr[v] : indptr[v + 1]]:
                if place[item]:
                    common[n_common] = place[item] - 1
                    n_common += 1
                    overlap += weights[item]
                elif column[item]:
                    listed[n_listed] = column[item] - 1
                    n_listed += 1
            made_of = overlap - expected * masses[v]
            if made_of <= 0:  # summed in another order it was a little more
                continue
            share = similarities[user, x] / made_of
            for c in listed[:n_listed]:
                lost[c] += share * masses[v] * centre
                for at in common[:n_common]:
                    parts[c, at] += share * weights[history[at]]
        for c in range(items.shape[1]):
            most = 0.0
            for at in range(len(history)):
                part = parts[c, at] - lost[c] * weights[history[at]]
                if part > 0 and part >= most:
                    found[user, c], most = history[at], part
        place[history] = 0
        column[items[user]] = 0
