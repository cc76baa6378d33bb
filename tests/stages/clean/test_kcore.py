"""Compares the k-core with plain Python on small random graphs."""

import random
from collections import Counter

import pytest

from recsys_spark.columns import ITEM_IDX, USER_IDX
from recsys_spark.stages.clean.kcore import outside_core


def _core(pairs, min_items, min_users):
    """Remove edges whose user has fewer than `min_items` or whose item has fewer than `min_users` until all remain."""
    core = set(pairs)
    while True:
        users, items = Counter(u for u, _ in core), Counter(i for _, i in core)
        below = {(u, i) for u, i in core if users[u] < min_items or items[i] < min_users}
        if not below:
            return core
        core -= below


def _graph(seed):
    roll = random.Random(seed)
    return sorted({(roll.randrange(25), roll.randint(1, 20)) for _ in range(90)})


# removing the end of the chain puts the next node below the minimum
CHAIN = [(u, i) for u in range(6) for i in (u, u + 1) if i]


@pytest.mark.parametrize(
    "pairs, min_items, min_users",
    [(_graph(1), 3, 4), (_graph(2), 1, 5), (_graph(3), 5, 1), (_graph(4), 2, 2), (CHAIN, 2, 2)],
    ids=lambda v: str(v)[:12],
)
def test_core_equals_plain_python(spark, pairs, min_items, min_users):
    frame = spark.createDataFrame(pairs, "user_idx bigint, item_idx int")
    outside = outside_core(frame, min_items=min_items, min_users=min_users)
    removed = {
        side: {row[0] for row in rows.collect()} if rows is not None else set() for side, rows in outside.items()
    }
    core = {(u, i) for u, i in pairs if u not in removed[USER_IDX] and i not in removed[ITEM_IDX]}
    assert core == _core(pairs, min_items, min_users)
    assert len(core) < len(pairs)
