"""Hold out the last items of each user.

A pair (user, item) stands where its first event stands. Per user, pairs are ordered by first event, ties by the user's own
`tie_order` (spark/tie_order.py); the last `test_n` are test, the
`valid_n` before them valid, the rest train. A user who would be left with fewer than `min_train` train pairs is all train.

Example, with valid_n = test_n = 1 and min_train = 2:

>>> events = [(8, 1, 1), (8, 2, 2), (8, 3, 3), (8, 4, 4), (8, 1, 3), (8, 2, 9), (8, 3, 5), (9, 1, 1), (9, 2, 2), (9, 3, 3)]
>>> folds, repeats = example(events, valid_n=1, test_n=1, min_train=2)
>>> for pair, (fold, known) in folds.items():
...     print(*pair, fold, known)
8 1 train 2
8 2 train 1
8 3 valid 1
8 4 test 1
9 1 train 1
9 2 train 1
9 3 train 1

User 8's item 3 begins at 3, so train knows the events up to and at 3: item 1 twice, but not item 2's repeat at 9. Valid knows the events up to where
test begins, at 4, and not item 3's repeat at 5. User 9 has three items; with two held out one would be left, so all are train.

>>> repeats
2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT
from recsys_spark.spark.tie_order import tie_order


def split(interactions: DataFrame, *, valid_n: int, test_n: int, min_train: int) -> DataFrame:
    """The table `folds` of `interactions`. Key: user_idx, item_idx."""
    pair, user = Window.partitionBy(USER_IDX, ITEM_IDX), Window.partitionBy(USER_IDX)
    # one exchange by user serves the windows over pairs as well
    events = interactions.repartition(USER_IDX).withColumn("__first", F.min(EVENT_TS).over(pair))
    tie = tie_order(F.col(USER_IDX), F.col(ITEM_IDX).cast("bigint"))
    # dense_rank gives all events of a pair one place, counted from the user's newest pair
    events = events.withColumn("__place", F.dense_rank().over(user.orderBy(F.desc("__first"), tie.desc())))
    all_train = F.max("__place").over(user) < valid_n + test_n + min_train
    fold = (
        F.when(all_train, F.lit(TRAIN))
        .when(F.col("__place") <= test_n, F.lit(TEST))
        .when(F.col("__place") <= test_n + valid_n, F.lit(VALID))
        .otherwise(F.lit(TRAIN))
    )
    events = events.withColumn(FOLD, fold)
    begins = {name: F.min(F.when(F.col(FOLD) == name, F.col("__first"))).over(user) for name in (VALID, TEST)}
    horizon = F.when(F.col(FOLD) == TRAIN, begins[VALID]).when(F.col(FOLD) == VALID, begins[TEST])
    known = F.coalesce(F.col(EVENT_TS) <= horizon, F.lit(True))
    weighed = events.withColumn("__known", F.when(known, F.col(WEIGHT)))
    return weighed.groupBy(USER_IDX, ITEM_IDX, FOLD).agg(
        F.min("__first").alias(EVENT_TS), F.sum("__known").cast("float").alias(WEIGHT)
    )


def example(
    events: Sequence[tuple[int, int, int]], *, valid_n: int, test_n: int, min_train: int
) -> tuple[dict[tuple[int, int], tuple[str, int]], int]:
    """The rule in plain Python, for the example above and as the tests' oracle: the fold and the number of known events of each pair of
    (user, item, time) events, and the number of events that are dropped."""
    first: dict[tuple[int, int], int] = {}
    for user, item, time in events:
        first[user, item] = min(time, first.get((user, item), time))
    fold: dict[tuple[int, int], str] = {}
    horizon: dict[tuple[int, str], int] = {}
    for user in {user for user, _ in first}:
        pairs = sorted((pair for pair in first if pair[0] == user), key=lambda pair: (first[pair], tie_order(*pair)))
        train = len(pairs) - valid_n - test_n
        names = [TRAIN] * train + [VALID] * valid_n + [TEST] * test_n if train >= min_train else [TRAIN] * len(pairs)
        fold |= dict(zip(pairs, names))
        if train >= min_train:
            horizon |= {(user, TRAIN): first[pairs[train]], (user, VALID): first[pairs[train + valid_n]]}
    known: Counter[tuple[int, int]] = Counter()
    for user, item, time in events:
        known[user, item] += time <= horizon.get((user, fold[user, item]), time)
    folds = {pair: (fold[pair], known[pair]) for pair in sorted(first)}
    return folds, len(events) - known.total()
