"""Holds out the last items of each user.

The pairs of a user are ordered by their first event, ties by `tie_order` (spark/tie_order.py). The last `test_n` pairs
are test, the `valid_n` pairs before them valid, all others train. A user with fewer than `min_train` train pairs has
all pairs in train.

Each user has their own cutoffs. Train sees the events up to and including the time of the first validation pair, and
valid those up to and including the time of the first test pair. Later events of these pairs are repeats, which no fold
sees.

Example with valid_n = test_n = 1 and min_train = 2, for events (user, item, time):

>>> events = [(8, 1, 1), (8, 2, 2), (8, 3, 3), (8, 4, 4), (8, 1, 3), (8, 2, 9), (8, 3, 5)]
>>> events += [(9, 1, 1), (9, 2, 2), (9, 3, 3)]
>>> folds, repeats = reference_split(events, valid_n=1, test_n=1, min_train=2)
>>> for pair, (fold, visible_events) in folds.items():
...     print(*pair, fold, visible_events)
8 1 train 2
8 2 train 1
8 3 valid 1
8 4 test 1
9 1 train 1
9 2 train 1
9 3 train 1
>>> repeats
2

For user 8 the cutoff of train is 3, where item 3 begins: both events of item 1 are visible, but not the event of item 2
at 9. The cutoff of valid is 4, so the event of item 3 at 5 is a repeat. User 9 has three items. Only one would remain
for train, so all are train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT
from recsys_spark.spark.tie_order import tie_order


def split(interactions: DataFrame, *, valid_n: int, test_n: int, min_train: int) -> DataFrame:
    """Return the table `folds` of `interactions`, key user_idx, item_idx."""
    pair, user = Window.partitionBy(USER_IDX, ITEM_IDX), Window.partitionBy(USER_IDX)
    # partitions by user serve the windows over pairs too, so one shuffle is enough
    events = interactions.repartition(USER_IDX).withColumn("__first", F.min(EVENT_TS).over(pair))
    tie = tie_order(F.col(USER_IDX), F.col(ITEM_IDX).cast("bigint"))
    # dense_rank gives all events of a pair one place, 1 for the user's newest pair
    events = events.withColumn("__place", F.dense_rank().over(user.orderBy(F.desc("__first"), tie.desc())))
    all_train = F.max("__place").over(user) < valid_n + test_n + min_train
    fold = (
        F.when(all_train, F.lit(TRAIN))
        .when(F.col("__place") <= test_n, F.lit(TEST))
        .when(F.col("__place") <= test_n + valid_n, F.lit(VALID))
        .otherwise(F.lit(TRAIN))
    )
    events = events.withColumn(FOLD, fold)
    begin = {name: F.min(F.when(F.col(FOLD) == name, F.col("__first"))).over(user) for name in (VALID, TEST)}
    cutoff = F.when(F.col(FOLD) == TRAIN, begin[VALID]).when(F.col(FOLD) == VALID, begin[TEST])
    visible = F.coalesce(F.col(EVENT_TS) <= cutoff, F.lit(True))
    events = events.withColumn("__visible_weight", F.when(visible, F.col(WEIGHT)))
    return events.groupBy(USER_IDX, ITEM_IDX, FOLD).agg(
        F.min("__first").alias(EVENT_TS), F.sum("__visible_weight").cast("float").alias(WEIGHT)
    )


def reference_split(
    events: Sequence[tuple[int, int, int]], *, valid_n: int, test_n: int, min_train: int
) -> tuple[dict[tuple[int, int], tuple[str, int]], int]:
    """Return (fold, number of visible events) of each pair of (user, item, time) events, and the number of repeats.

    Plain Python for the example above and for the tests, which compare `split` with it.
    """
    first: dict[tuple[int, int], int] = {}
    for user, item, time in events:
        first[user, item] = min(time, first.get((user, item), time))
    fold: dict[tuple[int, int], str] = {}
    cutoff: dict[tuple[int, str], int] = {}
    for user in {user for user, _ in first}:
        pairs = sorted((pair for pair in first if pair[0] == user), key=lambda pair: (first[pair], tie_order(*pair)))
        n_train = len(pairs) - valid_n - test_n
        if n_train < min_train:
            fold |= dict.fromkeys(pairs, TRAIN)
            continue
        fold |= dict(zip(pairs, [TRAIN] * n_train + [VALID] * valid_n + [TEST] * test_n))
        cutoff |= {(user, TRAIN): first[pairs[n_train]], (user, VALID): first[pairs[n_train + valid_n]]}
    visible: Counter[tuple[int, int]] = Counter()
    for user, item, time in events:
        visible[user, item] += time <= cutoff.get((user, fold[user, item]), time)
    return {pair: (fold[pair], visible[pair]) for pair in sorted(first)}, len(events) - visible.total()
