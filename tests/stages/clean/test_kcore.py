"""The k-core against plain Python on small random graphs."""

import random

import pytest

from recsys_spark.columns import ITEM_IDX, USER_IDX
from recsys_spark.stages.clean.kcore import outside_core


def _core(pairs, users, items):
    """Take single edges of poor ends away until none is left."""
    left = set(pairs)
    while True:
        poor = {(u, i) for u, i in left if sum(p[0] == u for p in left) < users or sum(p[1] == i for p in left) < items}
        if not poor:
            return left
        left -= poor


def _graph(seed):
    roll = random.Random(seed)
    return sorted({(roll.randrange(25), roll.randint(1, 20)) for _ in range(90)})


CHAIN = [(u, i) for u in range(6) for i in (u, u + 1) if i]  # each end peeled makes the next one poor


@pytest.mark.parametrize(
    "pairs, users, items",
    [(_graph(1), 3, 4), (_graph(2), 1, 5), (_graph(3), 5, 1), (_graph(4), 2, 2), (CHAIN, 2, 2)],
    ids=lambda v: str(v)[:12],
)
def test_core_equals_plain_python(spark, pairs, users, items):
    frame = spark.createDataFrame(pairs, "user_idx bigint, item_idx int")
    gone = outside_core(frame, users=users, items=items)
    names = {side: {row[0] for row in found.collect()} if found is not None else set() for side, found in gone.items()}
    left = {(u, i) for u, i in pairs if u not in names[USER_IDX] and i not in names[ITEM_IDX]}
    assert left == _core(pairs, users, items)
    assert len(left) < len(pairs)
