"""The part of per_user.py that runs in Spark tasks, on Arrow batches without Spark."""

import numpy as np
import pyarrow as pa

from recsys_spark.metrics.categories import Categories
from recsys_spark.stages.evaluate import per_user

MODELS, CUTOFFS, LENGTH = ["als", "fused"], [2, 3], 3
ITEM_CATEGORIES = [
    [str(code) for code in np.flatnonzero(row)] for row in np.random.default_rng(2).integers(0, 2, (21, 4))
]
CATEGORIES = Categories.of(pa.table({"item_idx": range(21), "categories": ITEM_CATEGORIES}), 21)


def batch(n_users=9):
    """Return users with lists of 0 to 3 items in random order; the first user has no entry at all."""
    rng = np.random.default_rng(1)
    entries = [None]
    for _ in range(n_users - 1):
        lists = [rng.permutation(np.arange(1, 21))[: rng.integers(0, LENGTH + 1)] for _ in MODELS]
        own = [{"place": m * LENGTH + at, "item_idx": i} for m, items in enumerate(lists) for at, i in enumerate(items)]
        entries.append([own[i] for i in rng.permutation(len(own))])
    positives = [rng.permutation(np.arange(1, 21))[: rng.integers(1, 9)].tolist() for _ in range(n_users)]
    kinds = {
        "entries": pa.list_(pa.struct([("place", pa.int32()), ("item_idx", pa.int32())])),
        "positives": pa.list_(pa.int32()),
    }
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(n_users), pa.int64()),
            pa.array(positives, kinds["positives"]),
            pa.array(entries, kinds["entries"]),
            pa.array([None, *range(1, n_users)], pa.int32()),
            pa.array(["s"] * n_users, pa.string()),
        ],
        names=["user_idx", "positives", "entries", "history", "segment"],
    )


def rows(*batches):
    found = [
        row for b in batches for part in per_user._rows(b, MODELS, CUTOFFS, 2, CATEGORIES) for row in part.to_pylist()
    ]
    return {(row["user_idx"], row["model"], row["k"]): row for row in found}


def test_the_batch_size_changes_nothing():
    whole = batch()
    cut = rows(whole.slice(0, 1), whole.slice(1, 4), whole.slice(5))
    assert cut == rows(whole)
    assert len(cut) == 9 * len(MODELS) * len(CUTOFFS)
    assert any(row["ndcg"] > 0 for row in cut.values())


def test_a_user_without_lists_has_metrics_of_0():
    own = [row for (user, _, _), row in rows(batch()).items() if user == 0]
    assert {row["recall"] for row in own} == {row["mrr"] for row in own} == {0}
    assert {row["list_diversity"] for row in own} == {None}


def test_diversity_is_measured_at_the_gate_cutoff_only():
    found = rows(batch())
    assert {k for (_, _, k), row in found.items() if row["list_diversity"] is not None} == {2}


def test_the_order_of_the_entries_does_not_matter():
    entries = pa.array(
        [[{"place": 4, "item_idx": 9}, {"place": 0, "item_idx": 7}, {"place": 3, "item_idx": 8}]],
        pa.list_(pa.struct([("place", pa.int32()), ("item_idx", pa.int32())])),
    )
    assert per_user._lists(entries, 2, 3).tolist() == [[[7, 0, 0], [8, 9, 0]]]
